"""The rig of the object store's behaviour suite on a real S3 server: a node's credential, and a prefix of its own."""

from __future__ import annotations

import os
from functools import cached_property

from tests.s3.server import GATEWAY, S3Server
from workers.domain.ids import NodeId, id_from_cause
from workers.domain.targets.custody import object_key
from workers.store.objects.bucket import Bucket
from workers.store.objects.ports import ObjectReader, ObjectStore
from workers.store.objects.s3 import S3Reader, S3Store

NODE, OTHER = NodeId("a0" * 16), NodeId("b0" * 16)


class S3Rig:
    """A node's store and the gateway's reader."""

    large = (11 << 20) + 7
    """Three parts of 5 MiB, the smallest that S3 allows."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        self.prefix = f"t{os.urandom(6).hex()}"

    @cached_property
    def bucket(self) -> Bucket:
        return self._server.bucket(NODE, prefix=self.prefix)

    @cached_property
    def store(self) -> ObjectStore:
        return S3Store(self.bucket, NODE)

    @cached_property
    def reader(self) -> ObjectReader:
        return S3Reader(self._server.bucket(GATEWAY, prefix=self.prefix))

    def other(self) -> ObjectStore:
        return S3Store(self._server.bucket(OTHER, prefix=self.prefix), OTHER)

    def half_done(self, name: str) -> None:
        key = object_key(NODE, id_from_cause(1_783_198_004_000_000_000, name))
        upload = self.bucket.begin(key, "")
        self.bucket.put_part(key, upload, 1, os.urandom(5 << 20))
