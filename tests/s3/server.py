"""A real S3 server in a temporary directory, with an administrator, and a credential of each node and of the gateway.

Used by the fixtures. The policies are those that `deploy/compose/prepare.sh` makes: a node may add under its own name,
look at and end its own unfinished uploads, and nothing else; the gateway may read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from minio import Minio

from tests.components import require
from tests.kafka import keeper
from workers.domain.errors import WorkerError
from workers.domain.ids import NodeId
from workers.settings import S3Settings
from workers.store.objects.bucket import Bucket, open_bucket

BUCKET = "evidence"
ADMIN, GATEWAY = "admin", "gateway"
_READY_S = 90.0


def weed() -> str:
    """Where the server's program is: in this environment (`make seaweedfs`), or on PATH."""
    own = Path(sys.executable).parent / "weed"
    return str(own) if own.exists() else shutil.which("weed") or ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def node_policy(node: NodeId, bucket: str = BUCKET, prefix: str = "*/") -> dict[str, Any]:
    """What a node may do; `prefix` stands before its own name (the tests give each rig one of its own)."""
    own = f"{prefix}{node}/*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
                "Resource": [f"arn:aws:s3:::{bucket}/{own}"],
            },
            {
                "Effect": "Allow",
                "Action": ["s3:ListBucketMultipartUploads"],
                "Resource": [f"arn:aws:s3:::{bucket}"],
                "Condition": {"StringLike": {"s3:prefix": [own]}},
            },
        ],
    }


def gateway_policy(bucket: str = BUCKET) -> dict[str, Any]:
    """What the gateway may do."""
    statement = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    return {"Version": "2012-10-17", "Statement": [statement]}


class SeaweedFS:
    """The server's process, in `directory`, with the identities of a file; `more` of `start` are options of its own."""

    def __init__(self, directory: Path) -> None:
        require("seaweedfs", "a real S3 server judges credentials: say make seaweedfs", present=bool(weed()))
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._master = 0
        self.port = 0

    def stop(self) -> None:
        """End it, whatever it does."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def start(self, config: Path, *more: str) -> None:
        """Start it; it is not ready yet."""
        data = self.directory / "data"
        data.mkdir(exist_ok=True)
        services = ("master", "volume", "filer", "s3")
        ports = {f"{service}.port{kind}": free_port() for service in services for kind in ("", ".grpc")}
        self.port = ports["s3.port"]
        self._master = ports["master.port"]
        self._master_grpc = ports["master.port.grpc"]
        command = [
            weed(),
            "-logtostderr=true",
            "server",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.volumeSizeLimitMB=512",
            "-volume.max=50",
            "-filer",
            "-s3",
            f"-s3.config={config}",
            "-s3.port.lance=0",
            "-s3.port.iceberg=0",
            *(f"-{name}={port}" for name, port in ports.items()),
            *more,
        ]
        # The keeper ends the server with us, however we end.
        self._process = subprocess.Popen(
            [sys.executable, str(keeper.__file__), str(self.directory / "log"), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(self.directory)},
        )

    def make_bucket(self, name: str) -> None:
        """As the `bucket` service of docker-compose.yml does, until the server is ready for it."""
        master = f"-master=127.0.0.1:{self._master}.{self._master_grpc}"
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, self.log_tail()
            done = subprocess.run(
                [weed(), "shell", master],
                input=f"s3.bucket.create -name {name}\n",
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            if "created bucket" in done.stdout + done.stderr or "already exists" in done.stdout + done.stderr:
                return
            time.sleep(0.2)
        raise AssertionError(f"no bucket after {_READY_S:g} s: {self.log_tail()}")

    def log_tail(self) -> str:
        """The end of its log."""
        return (self.directory / "log").read_text(errors="replace")[-2000:]


class S3Server(SeaweedFS):
    """A server with identities of its own. Use as a context manager."""

    def __init__(self, directory: Path, nodes: Sequence[NodeId]) -> None:
        super().__init__(directory)
        self._nodes = nodes

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, identity: str, *, prefix: str = "", endpoint: str = "", **more: Any) -> S3Settings:
        """How one of the identities reaches the bucket, through `endpoint` if one is given."""
        secret = self.directory / f"{identity}.secret"
        secret.write_text(_secret(identity))
        return S3Settings(
            endpoint=endpoint or self.endpoint,
            bucket=BUCKET,
            prefix=prefix,
            access_key=identity,
            secret_key_file=secret,
            part_size_mb=more.pop("part_size_mb", 5),
            insecure_dev=True,
            **more,
        )

    def bucket(self, identity: str, *, prefix: str = "", **more: Any) -> Bucket:
        """The bucket as that identity."""
        return open_bucket(self.settings(identity, prefix=prefix, **more))

    def __enter__(self) -> Self:
        policies = {f"node-{node}": node_policy(node) for node in self._nodes} | {GATEWAY: gateway_policy()}
        identities = [
            {"name": ADMIN, "credentials": [_credential(ADMIN)], "actions": ["Admin"]},
            {"name": GATEWAY, "credentials": [_credential(GATEWAY)], "policyNames": [GATEWAY]},
            *(
                {"name": node, "credentials": [_credential(node)], "policyNames": [f"node-{node}"]}
                for node in self._nodes
            ),
        ]
        written = [{"name": name, "content": json.dumps(policy)} for name, policy in policies.items()]
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": identities, "policies": written}))
        self.start(config)
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self) -> None:
        """Until the administrator can make the bucket: it answers long before it can store anything."""
        end = time.monotonic() + _READY_S
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, self.log_tail()
            with contextlib.suppress(WorkerError, Exception):
                client = Minio(f"127.0.0.1:{self.port}", ADMIN, _secret(ADMIN), secure=False, region="us-east-1")
                if not client.bucket_exists(BUCKET):
                    client.make_bucket(BUCKET)
                administrator = self.bucket(ADMIN)
                if administrator.put("ready", b"ready", "") or administrator.head("ready"):
                    return
            time.sleep(0.1)
        raise AssertionError(f"no S3 server after {_READY_S:g} s: {self.log_tail()}")


def _secret(identity: str) -> str:
    return f"{identity}-secret-{identity[::-1]}"


def _credential(identity: str) -> dict[str, str]:
    return {"accessKey": identity, "secretKey": _secret(identity)}
