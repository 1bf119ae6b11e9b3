"""Where gathered files go: a bucket over the S3 API, or a directory. One doorway for the S3 client library.

``open_store`` is what a node may do (add under its own name), ``open_reader`` what the gateway may (read). Called by
bootstrap; the S3 client is imported only where a bucket is configured.
"""

from workers.adapters.object_store.directory import DirectoryReader, DirectoryStore
from workers.core.ids import NodeId
from workers.ports import Clock, ObjectReader, ObjectStore
from workers.settings import StorageSettings


def open_store(storage: StorageSettings, node_id: NodeId, *, clock: Clock) -> ObjectStore | None:
    """The configured store, for one node; None where none is configured.

    Raises:
        ConfigError: its secret or its certificate authority cannot be read.
    """
    if storage.directory is not None:
        return DirectoryStore(storage.directory, node_id, clock=clock)
    if storage.s3 is not None:
        from workers.adapters.object_store.bucket import open_bucket
        from workers.adapters.object_store.s3 import S3Store

        return S3Store(open_bucket(storage.s3), node_id, clock=clock)
    return None


def open_reader(storage: StorageSettings) -> ObjectReader | None:
    """The configured store, for reading; None where none is configured.

    Raises:
        ConfigError: as ``open_store``.
    """
    if storage.directory is not None:
        return DirectoryReader(storage.directory)
    if storage.s3 is not None:
        from workers.adapters.object_store.bucket import open_bucket
        from workers.adapters.object_store.s3 import S3Reader

        return S3Reader(open_bucket(storage.s3))
    return None
