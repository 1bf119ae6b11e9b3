"""From outside: signed commands against everything that a real node process lives by, for every action that could.

Only dry runs: they are admitted and bound like any other command, and touch nothing even where a check fails.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import confluent_kafka.cimpl
import pydantic
import pytest

import workers
from tests.engines import DockerRig, PodmanRig
from tests.integration.node_process import NodeSite, embedded_broker
from workers.actions import CATALOGUE
from workers.actions.base import Lane
from workers.domain.command import parameters_digest
from workers.domain.event import ProcessRef
from workers.domain.result import ActionResult
from workers.domain.target import FileTarget, ProcessTarget, Target
from workers.system.data_files import schema_files

RUNTIMES = (
    "systemd",
    "dockerd",
    "containerd",
    "containerd-shim-runc-v2",
    "runc",
    "crun",
    "conmon",
    "podman",
    "kubelet",
    "crio",
)

NO_PARAMETERS: Final[Mapping[str, bool]] = {}

FILE_ACTIONS = [each for each in CATALOGUE if each.target is FileTarget and not each.undo_only]
PROCESS_ACTIONS = [
    each for each in CATALOGUE if each.target is ProcessTarget and each.lane is Lane.CONTAINMENT and not each.undo_only
]
(KILL,) = (each for each in CATALOGUE if each.name == "kill_process")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeSite]:
    """A node in a data directory like that of ``douse up``."""
    directory = tmp_path_factory.mktemp("own")
    with embedded_broker() as broker, NodeSite(directory, broker) as made:
        for name in ("context.yaml", "history.sqlite", "config/gateway.yaml", "dispatcher/ledger.sqlite"):
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text("secret")
        made.config = directory / "config" / "node.yaml"
        made.storage = {"directory": str(directory / "objects")}
        made.configure()
        made.start()
        made.up()
        yield made


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """Malware by the names of what is protected, and the like of it in another place."""
    shutil.copy("/bin/sleep", tmp_path / "conmon")
    for name in ("context.yaml", "node.yaml", "journal.sqlite", "libc.so.6", "python3", "runc", "json.py"):
        (tmp_path / name).write_text("malware")
    return tmp_path


def data(site: NodeSite) -> Mapping[str, Path]:
    """Secrets, settings, stores."""
    root = site.directory
    return {
        "the admin token": root / "context.yaml",
        "the settings": root / "config" / "node.yaml",
        "the settings of another worker": root / "config" / "gateway.yaml",
        "the journal": root / "data" / "journal.sqlite",
        "the lock": root / "data" / "lock",
        "the key": root / "keys" / "node.key",
        "the keyset": root / "keys" / "keyset.json",
        "the dispatcher's ledger": root / "dispatcher" / "ledger.sqlite",
        "the history": root / "history.sqlite",
        "the file its log goes to": root / "log",
    }


def code(site: NodeSite) -> Mapping[str, Path]:
    """Programs: of the worker, and of the container runtimes."""
    assert site.process is not None
    found = {
        "the interpreter itself": Path(f"/proc/{site.process.pid}/exe").resolve(),
        "the standard library": Path(pytest.importorskip("json").__file__ or "").resolve(),
        "a library": Path(pydantic.__file__).resolve(),
        "an extension": Path(confluent_kafka.cimpl.__file__).resolve(),
        "its own package": Path(workers.__file__).resolve(),
        "a schema": schema_files()[0].resolve(),
    }
    programs = {name: shutil.which(name) for name in RUNTIMES}
    return found | {name: Path(path).resolve() for name, path in programs.items() if path}


def dry_run(
    site: NodeSite, action: str, target: Target, parameters: Mapping[str, bool] = NO_PARAMETERS
) -> ActionResult:
    command = site.kill(
        0,
        action=action,
        target=target,
        dry_run=True,
        parameters=parameters,
        parameters_sha256=parameters_digest(parameters),
    )
    site.send(command)
    return site.ended(command.command_id)


def on_file(site: NodeSite, action: str, path: Path) -> ActionResult:
    assert path.exists(), path
    return dry_run(site, action, FileTarget(bytes(path), site.clock.now_ns()))


def on_process(site: NodeSite, action: str, pid: int, parameters: Mapping[str, bool] = NO_PARAMETERS) -> ActionResult:
    return dry_run(site, action, ProcessTarget((ProcessRef(pid),), site.clock.now_ns()), parameters)


def refusal(result: ActionResult) -> tuple[str, str]:
    return str(result.outcome), result.code


@pytest.mark.parametrize("action", FILE_ACTIONS, ids=lambda each: each.name)
def test_no_action_takes_or_reads_a_secret_a_setting_or_a_store_of_the_node(site: NodeSite, action: Any) -> None:
    answers = {name: on_file(site, action.name, path) for name, path in data(site).items()}
    assert {name: refusal(answer)[0] for name, answer in answers.items()} == dict.fromkeys(answers, "REJECTED")
    assert all(answer.code.endswith("protected_target") for answer in answers.values()), answers


def test_no_action_takes_the_code_of_the_node_or_of_a_container_runtime(site: NodeSite) -> None:
    for action in (each for each in FILE_ACTIONS if each.lane is Lane.CONTAINMENT):
        answers = {name: on_file(site, action.name, path) for name, path in code(site).items()}
        assert {name: refusal(answer)[0] for name, answer in answers.items()} == dict.fromkeys(answers, "REJECTED")
        assert all(answer.code.endswith("protected_target") for answer in answers.values()), answers


def test_a_link_under_another_name_is_the_thing_itself(site: NodeSite) -> None:
    link = site.directory.parent / "innocent"
    link.unlink(missing_ok=True)
    link.hardlink_to(site.directory / "keys" / "node.key")
    try:
        # The key's own directory does not hold this name: only its identity says what it is.
        assert all(on_file(site, each.name, link).code.endswith("protected_target") for each in FILE_ACTIONS)
    finally:
        link.unlink()


@pytest.mark.parametrize("action", FILE_ACTIONS, ids=lambda each: each.name)
def test_malware_by_the_name_of_a_protected_file_is_not_protected(site: NodeSite, action: Any, decoys: Path) -> None:
    answers = {path.name: str(on_file(site, action.name, path).outcome) for path in decoys.iterdir()}
    assert answers == dict.fromkeys(answers, "DRY_RUN")


@pytest.mark.parametrize("action", PROCESS_ACTIONS, ids=lambda each: each.name)
def test_no_action_ends_or_stops_a_process_that_the_node_lives_by(
    site: NodeSite, action: Any, decoys: Path, require: Any
) -> None:
    assert site.process is not None
    node = site.process.pid
    children = Path(f"/proc/{node}/task/{node}/children").read_text().split()
    stat = Path(f"/proc/{node}/stat").read_text()
    things = {"the node": node, "its parent": int(stat.rpartition(")")[2].split()[1])}
    things |= {f"the fork server {child}": int(child) for child in children}
    decoy = subprocess.Popen([decoys / "conmon", "600"])
    home = Path(tempfile.mkdtemp(prefix="douse-"))  # podman refuses long paths
    service = podman_service(home)
    if service is not None:
        things["podman's service"] = service.pid
    try:
        time.sleep(0.1)
        for name, pid in things.items():
            answer = on_process(site, action.name, pid)
            assert str(answer.outcome) == "REJECTED", (name, answer)
            assert answer.code.endswith("protected_target"), (name, answer)
        assert str(on_process(site, action.name, decoy.pid).outcome) == "DRY_RUN", "malware named conmon"
    finally:
        for process in (decoy, service):
            if process is not None:
                process.kill()
                process.wait()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("parameters", [{}, {"tree": True}], ids=["alone", "tree"])
def test_no_action_ends_or_stops_a_runtimes_daemon_shim_or_monitor_nor_the_machines_own(
    site: NodeSite, docker_engine: DockerRig, podman_engine: PodmanRig, parameters: dict[str, Any]
) -> None:
    """Real ones, each with a container that runs; the containers' own processes may be killed."""
    containers = {rig.name: (rig, rig.run()) for rig in (docker_engine, podman_engine)}
    try:
        inits = {name: rig.pid(container_id) for name, (rig, container_id) in containers.items()}
        assert docker_engine.process is not None
        assert podman_engine.process is not None
        things = {
            "the machine's init": 1,
            "dockerd": docker_engine.process.pid,
            "its containerd": child_of(docker_engine.process.pid, "containerd"),
            "its container's shim": parent_of(inits["docker"]),
            "podman's service": podman_engine.process.pid,
            "its container's conmon": parent_of(inits["podman"]),
        }
        if kernel_threads():
            things["a kernel thread"] = 2
        assert program(things["its container's shim"]).startswith("containerd-shim")
        assert program(things["its container's conmon"]) == "conmon"
        for action in PROCESS_ACTIONS if not parameters else [KILL]:
            for name, pid in things.items():
                answer = on_process(site, action.name, pid, parameters)
                assert refusal(answer) == ("REJECTED", f"{action.name}_error_protected_target"), (name, answer)
            for name, pid in inits.items():
                assert str(on_process(site, action.name, pid, parameters).outcome) == "DRY_RUN", name
    finally:
        for rig, container_id in containers.values():
            rig.remove(container_id)


def test_no_action_takes_a_library_that_the_node_has_mapped(site: NodeSite) -> None:
    assert site.process is not None
    rows = Path(f"/proc/{site.process.pid}/maps").read_text().splitlines()
    mapped = {row.split(None, 5)[5] for row in rows if len(row.split(None, 5)) == 6}
    libraries = [path for path in map(Path, sorted(mapped)) if path.is_file()]
    assert any(path.name.startswith("libc.so") for path in libraries)
    for action in (each for each in FILE_ACTIONS if each.lane is Lane.CONTAINMENT):
        commands = {
            path: site.kill(0, action=action.name, target=FileTarget(bytes(path), site.clock.now_ns()), dry_run=True)
            for path in libraries
        }
        for command in commands.values():
            site.send(command)
        answers = {path: site.ended(command.command_id) for path, command in commands.items()}
        assert {path: answer.code for path, answer in answers.items()} == dict.fromkeys(
            answers, f"{action.name}_error_protected_target"
        )


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def child_of(pid: int, name: str) -> int:
    children = [
        int(each) for path in Path(f"/proc/{pid}/task").iterdir() for each in (path / "children").read_text().split()
    ]
    return next(child for child in children if program(child) == name)


def program(pid: int) -> str:
    return Path(f"/proc/{pid}/exe").readlink().name


def kernel_threads() -> bool:
    return Path("/proc/2/stat").exists() and Path("/proc/2/stat").read_text().split()[1] == "(kthreadd)"


def podman_service(home: Path) -> subprocess.Popen[bytes] | None:
    """A real one, with stores of its own, where this machine has it and this is root."""
    podman = shutil.which("podman")
    if podman is None or subprocess.run(["id", "-u"], capture_output=True, check=True).stdout.strip() != b"0":
        return None
    stores = ["--root", str(home / "root"), "--runroot", str(home / "run"), "--storage-driver", "vfs"]
    socket = home / "podman.sock"
    service = subprocess.Popen(
        [podman, *stores, "system", "service", "--time", "0", f"unix://{socket}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 10
    while not socket.exists() and time.monotonic() < end and service.poll() is None:
        time.sleep(0.02)
    if service.poll() is None:
        return service
    return None
