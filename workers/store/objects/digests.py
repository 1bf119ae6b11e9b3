"""Whether what was sent is what was sealed: the last look before an object gets its name.

Called by every object store, with the digest that it made while it read the source.
"""

from workers.domain.errors import PermanentFailure
from workers.store.objects.ports import ObjectSource


def check_digest(sha256: str, source: ObjectSource) -> None:
    """Raises ``PermanentFailure`` (``spool_damaged``) where the bytes read are not those that were sealed."""
    if sha256 != source.sha256:
        raise PermanentFailure("the copy on the spool is not what was sealed", code="spool_damaged")
