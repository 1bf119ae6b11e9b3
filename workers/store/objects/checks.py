"""What every object store checks before an object gets its name: whose key it is, and the digest.

Called by the stores of this package. Pure.
"""

from workers.domain.errors import PermanentFailure
from workers.domain.ids import NodeId
from workers.domain.targets.custody import executed
from workers.store.objects.ports import ObjectSource


def check_own(key: str, node_id: NodeId) -> None:
    """Raises ``ValueError`` for a key that does not belong to this node: in a directory it would be a path."""
    if executed(key, node_id) is None:
        raise ValueError(f"{key!r} is not a key of this node")


def check_digest(sha256: str, source: ObjectSource) -> None:
    """Raises ``PermanentFailure`` (``spool_damaged``) if the bytes read are not those that were sealed."""
    if sha256 != source.sha256:
        raise PermanentFailure("the copy on the spool is not what was sealed", code="spool_damaged")
