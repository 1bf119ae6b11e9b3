"""The modules generated from ``.proto`` files are what the compiler makes of them now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.stubs import REPOSITORY, generate


def test_the_generated_modules_are_fresh(tmp_path: Path) -> None:
    names = generate(tmp_path)
    assert len(names) == 8
    stale = [name for name in names if (REPOSITORY / name).read_bytes() != (tmp_path / name).read_bytes()]
    assert stale == [], "run `make stubs`"


def test_no_worker_imports_grpc_or_protobuf_before_there_is_a_cri_socket() -> None:
    code = (
        "import sys; from workers.wiring.containers import host_containers; "
        "from workers.settings import ResponseActions; from workers.system.clock import SystemClock; "
        "host_containers(ResponseActions(), SystemClock()); "
        "print([name for name in ('grpc', 'google.protobuf', 'docker') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "[]"
