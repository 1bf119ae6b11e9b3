"""Keys on disk: private keys, and the signed keyset of the trusted ones.

``files`` reads and writes with care for permissions and crashes; ``keyset_document`` is the signed form;
``installation`` makes and changes what lies in a key directory.
"""

from workers.wire.keys.files import load_private_key
from workers.wire.keys.installation import (
    add_key,
    add_node,
    ensure_keys,
    init_keys,
    leave,
    renew,
    revoke,
    rotate,
    versions,
)
from workers.wire.keys.keyset_document import KeysetFault, load_keyset
from workers.wire.keys.newest_keyset import NewestKeyset

__all__ = [
    "KeysetFault",
    "NewestKeyset",
    "add_key",
    "add_node",
    "ensure_keys",
    "init_keys",
    "leave",
    "load_keyset",
    "load_private_key",
    "renew",
    "revoke",
    "rotate",
    "versions",
]
