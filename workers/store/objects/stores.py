"""Opens the configured object store: ``open_store`` for a node (it adds), ``open_reader`` for the gateway (it reads).

Called by wiring. The S3 client is imported only where a bucket is configured.
"""

from workers.domain.ids import NodeId
from workers.settings import StorageSettings
from workers.store.objects.directory import DirectoryReader, DirectoryStore
from workers.store.objects.ports import ObjectReader, ObjectStore


def open_store(storage: StorageSettings, node_id: NodeId) -> ObjectStore | None:
    """The configured store, for one node; None where none is configured.

    Raises:
        ConfigError: its secret or its certificate authority cannot be read.
    """
    if storage.directory is not None:
        return DirectoryStore(storage.directory, node_id)
    if storage.s3 is not None:
        from workers.store.objects.bucket import open_bucket
        from workers.store.objects.s3 import S3Store

        return S3Store(open_bucket(storage.s3), node_id)
    return None


def open_reader(storage: StorageSettings) -> ObjectReader | None:
    """The configured store, for reading; None where none is configured.

    Raises:
        ConfigError: as ``open_store``.
    """
    if storage.directory is not None:
        return DirectoryReader(storage.directory)
    if storage.s3 is not None:
        from workers.store.objects.bucket import open_bucket
        from workers.store.objects.s3 import S3Reader

        return S3Reader(open_bucket(storage.s3))
    return None
