"""What every object store checks before an object gets its name: whose key it is, the deadline, and the digest.

Called by the stores of this package. Pure but for the clock that it is given.
"""

from workers.domain.errors import LimitExceeded, PermanentFailure
from workers.domain.ids import NodeId
from workers.domain.targets.custody import executed
from workers.store.objects.ports import ObjectSource
from workers.system.ports import Clock


def check_own(key: str, node_id: NodeId) -> None:
    """Raises ``ValueError`` for a key that does not belong to this node: in a directory it would be a path."""
    if executed(key, node_id) is None:
        raise ValueError(f"{key!r} is not a key of this node")


def check_deadline(clock: Clock, deadline_ns: int) -> None:
    """Raises ``LimitExceeded`` (``timed_out``) once the deadline has passed."""
    if clock.now_ns() > deadline_ns:
        raise LimitExceeded("the time allowed for this object is over", code="timed_out")


def check_digest(sha256: str, source: ObjectSource) -> None:
    """Raises ``PermanentFailure`` (``spool_damaged``) if the bytes read are not those that were sealed."""
    if sha256 != source.sha256:
        raise PermanentFailure("the copy on the spool is not what was sealed", code="spool_damaged")
