"""Each third-party library has one doorway, the core is pure, and nobody starts a shell or a stray thread.

The table below is the plan; import-linter holds the layers (pyproject.toml). Whoever adds a library adds a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import workers
from tests.unit.source_rules import (
    Doorways,
    Source,
    forbidden_call_complaints,
    foreign_import_complaints,
    impure_import_complaints,
    sources_under,
    thread_complaints,
)

_PACKAGE = Path(workers.__file__).parent

_HTTP = ("workers.gateway.http",)
_CLI = ("workers.cli",)
_SQLITE = ("workers.store.journal", "workers.store.ledger", "workers.store.sqlite")
_HISTORY = ("workers.store.history",)
_LOCKS_ONLY = ("workers.host", "workers.log", "workers.store", "workers.system", "workers.wire")

DOORWAYS: Doorways = {
    # third-party
    "alembic": _HISTORY,
    "cattrs": ("workers.wire.avro", "workers.wire.json_columns"),
    "confluent_kafka": ("workers.log",),
    "cryptography": ("workers.wire.signing",),
    "docker": ("workers.host.containers.docker",),
    "fastapi": _HTTP,
    "fastavro": ("workers.wire.avro",),
    "google": ("workers.host.containers.cri",),
    "grpc": ("workers.host.containers.cri",),
    "h11": _HTTP,
    "httpx": _CLI,
    "minio": ("workers.store.objects",),
    "msgspec": ("workers.wire.event_reader",),
    "opentelemetry": ("workers.system.telemetry",),
    "psutil": ("workers.host.processes",),
    "pydantic": (
        "workers.settings",
        "workers.log.topic_catalogue",
        "workers.system.rule_files",
        "workers.system.rule_schema",
        "workers.wire.keys.keyset_document",
        *_HTTP,
    ),
    "requests": ("workers.host.containers.docker",),
    "rich": _CLI,
    "sqlalchemy": _HISTORY,
    "starlette": _HTTP,
    "structlog": ("workers.system.logs",),
    "tenacity": ("workers.system.retrying",),
    "typer": _CLI,
    "urllib3": ("workers.store.objects",),
    "uvicorn": _HTTP,
    "yaml": ("workers.system.yaml_files",),
    "zstandard": ("workers.host.files.quarantine",),
    # the standard library's own doors to the world that want one room too
    "ctypes": ("workers.host", "workers.log", "workers.system"),
    "sqlite3": _SQLITE,
}

PURE = frozenset(
    {
        "__future__",
        "abc",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "collections.abc",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "ipaddress",
        "itertools",
        "json",
        "math",
        "operator",
        "re",
        "string",
        "struct",
        "types",
        "typing",
        "unicodedata",
        "uuid",
    }
)

# The supervisor starts our own workers, the demo its own harmless malware; nothing else may start a program.
_MAY_FORK = "workers.host.evidence.fork_server"
"""Before the worker has a thread, and nothing is executed: a filesystem that never answers holds a reader alone."""
_MAY_START = ("workers.cli.up.supervisor", "workers.cli.demo.malware")


def _library_imports() -> Iterator[tuple[str, str]]:
    graph = grimp.build_graph("workers", include_external_packages=True, cache_dir=None)
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            yield module, imported


@pytest.fixture(scope="module")
def own_sources() -> list[Source]:
    return list(sources_under(_PACKAGE))


def test_each_library_is_imported_only_at_its_doorway() -> None:
    assert foreign_import_complaints(_library_imports(), DOORWAYS, own="workers") == []


def test_every_module_is_seen(own_sources: list[Source]) -> None:
    graph = grimp.build_graph("workers", cache_dir=None)
    assert graph.modules == {source.module for source in own_sources}, "a directory lacks its __init__.py"


def test_the_core_imports_only_the_pure_part_of_the_standard_library(own_sources: list[Source]) -> None:
    core = [source for source in own_sources if source.module.startswith("workers.domain")]
    assert core
    assert [line for source in core for line in impure_import_complaints(source, PURE, folder="workers.domain")] == []


def test_a_seam_never_knows_what_implements_it() -> None:
    graph = grimp.build_graph("workers", cache_dir=None)
    seams = {module for module in graph.modules if module.endswith(".ports")}
    assert len(seams) > 10
    strangers = {
        f"{seam} imports {imported}"
        for seam in seams
        for imported in graph.find_modules_directly_imported_by(seam)
        if imported not in seams and not imported.startswith("workers.domain.")
    }
    assert strangers == set()


def test_nobody_starts_a_program_or_turns_data_into_code(own_sources: list[Source]) -> None:
    judged = [source for source in own_sources if source.module not in _MAY_START]
    forks = f"{_MAY_FORK}:"
    output = [line for source in judged for line in forbidden_call_complaints(source)]
    assert [line for line in output if not (line.startswith(forks) and "os.fork:" in line)] == []
    assert any(line.startswith(forks) for line in output), "nobody forks any more: take the exception away"


def test_threads_live_in_loops(own_sources: list[Source]) -> None:
    complaints = [
        line
        for source in own_sources
        for line in thread_complaints(source, free=("workers.cli", "workers.gateway.http"), locks_only=_LOCKS_ONLY)
    ]
    assert complaints == []


# The checkers themselves can fail: each is shown an offender and an innocent.


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("workers.node.lanes", "docker"),
        ("workers.host.containers.dockerish", "docker"),
        ("workers.host.containers", "docker"),
        ("workers.node.gate", "sqlite3"),
        ("workers.log.feed", "requests"),
        ("workers.domain.ids", "pydantic"),
    ],
)
def test_a_library_outside_its_doorway_is_reported(module: str, imported: str) -> None:
    complaints = foreign_import_complaints([(module, imported)], DOORWAYS, own="workers")
    assert len(complaints) == 1
    assert module in complaints[0]
    assert imported in complaints[0]


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("workers.host.containers.docker", "docker"),
        ("workers.host.containers.docker.client", "docker.errors"),
        ("workers.node.gate", "hashlib"),
        ("workers.node.gate", "workers.domain.ids"),
    ],
)
def test_a_library_at_its_doorway_is_not_reported(module: str, imported: str) -> None:
    assert foreign_import_complaints([(module, imported)], DOORWAYS, own="workers") == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "import os.path",
        "from random import random",
        "import threading",
        "from workers.wire import avro",
        "from ..settings import Settings",
        "def late():\n    import socket",
    ],
)
def test_an_impure_import_in_the_core_is_reported(text: str) -> None:
    assert len(impure_import_complaints(Source("workers.domain.ids", text), PURE, folder="workers.domain")) == 1


@pytest.mark.parametrize("text", ["import re", "from collections.abc import Mapping", "from .ids import NodeId"])
def test_a_pure_import_in_the_core_is_not_reported(text: str) -> None:
    assert impure_import_complaints(Source("workers.domain.event", text), PURE, folder="workers.domain") == []


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess",
        "from subprocess import run",
        "import os\nos.system('true')",
        "from os import execv",
        "import os\nos.posix_spawn('/bin/true', [], {})",
        "eval('1')",
        "exec('x = 1')",
        "__import__('os')",
        "import pickle",
        "import yaml\nyaml.load('', Loader=None)",
        "from yaml import unsafe_load",
        "import tarfile",
        "import zipfile",
        "run('ls', shell=True)",
        "run('ls', shell=chosen)",
        "import shutil\nshutil.unpack_archive('a')",
    ],
)
def test_a_forbidden_call_is_reported(text: str) -> None:
    assert len(forbidden_call_complaints(Source("workers.node.gate", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "import yaml\nyaml.safe_load('')",
        "import re\nre.compile('a')",
        "run(shell=False)",
        "self.exec = 1",
        "import os\nos.close(3)",
    ],
)
def test_an_allowed_call_is_not_reported(text: str) -> None:
    assert forbidden_call_complaints(Source("workers.node.gate", text)) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("workers.node.lanes", "import threading"),
        ("workers.node.lanes", "from threading import Lock"),
        ("workers.node.lanes", "from concurrent.futures import ThreadPoolExecutor"),
        ("workers.dispatcher.ledger", "import multiprocessing"),
        ("workers.store.journal", "import threading\nthreading.Thread()"),
        ("workers.store.journal", "from threading import Thread"),
        ("workers.store.journal", "import concurrent.futures"),
        ("workers.gateway.routes", "import asyncio"),
        ("workers.node.looping", "import threading"),
        ("workers.node.service", "import threading"),
    ],
)
def test_a_stray_thread_is_reported(module: str, text: str) -> None:
    assert len(_thread_complaints(module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("workers.node.loop", "import threading\nthreading.Thread()"),
        ("workers.service", "import threading\nthreading.Thread()"),
        ("workers.cli.up", "import threading\nthreading.Thread()"),
        ("workers.store.journal", "import threading\nlock = threading.Lock()"),
        ("workers.store.journal", "from threading import Lock"),
    ],
)
def test_a_thread_or_lock_in_its_place_is_not_reported(module: str, text: str) -> None:
    assert _thread_complaints(module, text) == []


def _thread_complaints(module: str, text: str) -> list[str]:
    return thread_complaints(Source(module, text), free=("workers.cli",), locks_only=_LOCKS_ONLY)
