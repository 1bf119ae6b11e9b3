"""The Python modules generated from ``.proto`` files; ``make stubs`` writes them, and a test compares them.

``python -m tests.stubs`` writes them in place.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

REPOSITORY = Path(__file__).parents[1]
SERVICES = ("workers/host/containers/cri/stubs/cri.proto", "workers/host/containers/cri/stubs/tasks.proto")
MESSAGES = ("tests/containerd/kubelet.proto",)


def generate(into: Path) -> list[str]:
    """Write all generated modules below ``into``, as below the repository; their relative paths."""
    messages = ["protoc", f"-I{REPOSITORY}", f"--python_out={into}", f"--pyi_out={into}"]
    if protoc.main([*messages, f"--grpc_python_out={into}", *SERVICES]) or protoc.main([*messages, *MESSAGES]):
        raise RuntimeError("protoc failed")
    names = [name.removesuffix(".proto") + end for name in (*SERVICES, *MESSAGES) for end in ("_pb2.py", "_pb2.pyi")]
    return [*names, *(name.removesuffix(".proto") + "_pb2_grpc.py" for name in SERVICES)]


if __name__ == "__main__":
    for path in generate(REPOSITORY):
        print(path, file=sys.stderr)
