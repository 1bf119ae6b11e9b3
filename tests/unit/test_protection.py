"""Every protected process, and for each the decoys that must die: by table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.processes import FakeProcesses
from workers.domain.targets.process import ProcessFacts
from workers.domain.targets.protected_processes import TABLE, program_reason, protection

LINE = (900, 800, 1)
POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-pod1.slice/cri-containerd-" + "a" * 64 + ".scope"
DOCKER = "/system.slice/docker-" + "b" * 64 + ".scope"
SESSION = "/user.slice/user-1000.slice/session-3.scope"


def _facts(**facts: Any) -> ProcessFacts:
    return FakeProcesses().spawn(pid=4711, **facts).facts


def _service(exe: str, unit: str, **facts: Any) -> ProcessFacts:
    """A service of the host as systemd runs it."""
    real: dict[str, Any] = {
        "exe": exe,
        "exe_trusted": True,
        "name": exe.rpartition("/")[2][:15],
        "command_line": exe,
        "cgroup": f"/system.slice/{unit}",
        "uid": 0,
        "oldest_in_cgroup": True,
    }
    return _facts(**{**real, **facts})


SERVICES = [
    _service("/usr/bin/dockerd", "docker.service"),
    _service("/usr/bin/containerd", "containerd.service"),
    _service("/usr/local/bin/containerd", "containerd.service"),
    _service("/usr/bin/docker-proxy", "docker.service", oldest_in_cgroup=False),
    _service("/usr/bin/podman", "podman.service"),
    _service("/usr/bin/containerd-shim-runc-v2", "containerd.service", oldest_in_cgroup=False),
    _service("/usr/bin/conmon", "crio.service", oldest_in_cgroup=False),
    _service("/usr/sbin/runc", "containerd.service", oldest_in_cgroup=False),
    _service("/usr/bin/crun", "crio.service", oldest_in_cgroup=False),
    _service("/usr/bin/kubelet", "kubelet.service"),
    _service("/usr/local/bin/k3s", "k3s.service"),
    _service("/usr/bin/crio", "crio.service"),
    _service("/usr/sbin/sshd", "ssh.service"),
    _service("/usr/sbin/sshd", "sshd.service"),
    _service("/usr/lib/systemd/systemd-journald", "systemd-journald.service"),
    _service("/lib/systemd/systemd-udevd", "systemd-udevd.service", oldest_in_cgroup=False),
    _service("/usr/lib/systemd/systemd-logind", "systemd-logind.service"),
    _service("/usr/lib/systemd/systemd-resolved", "systemd-resolved.service", uid=101),
    _service("/usr/lib/systemd/systemd-networkd", "systemd-networkd.service", uid=998),
    _service("/usr/sbin/auditd", "auditd.service"),
    _service("/usr/bin/dbus-daemon", "dbus.service", uid=100),
    _service("/usr/bin/dbus-broker-launch", "dbus-broker.service"),
    _service("/usr/lib/jvm/java-17-openjdk-amd64/bin/java", "kafka.service", uid=997),
    _service("/opt/java/openjdk/bin/java", "confluent-kafka.service", uid=997),
    _service("/usr/bin/redpanda", "redpanda.service", uid=997),
    _service("/usr/lib/postgresql/15/bin/postgres", "postgresql@15-main.service", uid=110),
    _service("/usr/lib/postgresql/17/bin/postgres", "system-postgresql.slice/postgresql@17-main.service", uid=110),
    _service("/usr/sbin/mysqld", "mysql.service", uid=111),
    _service("/usr/sbin/mariadbd", "mariadb.service", uid=111),
    _service("/usr/bin/etcd", "etcd.service", uid=112),
    _service("/usr/bin/mongod", "mongod.service", uid=113),
    _service("/usr/bin/redis-server", "redis-server.service", uid=114),
]


def _why(facts: ProcessFacts, own_cgroup: str = "") -> str | None:
    return protection(facts, own_line=LINE, own_cgroup=own_cgroup)


def _name(facts: ProcessFacts) -> str:
    return f"{facts.name}-{facts.cgroup.rpartition('/')[2]}"


@pytest.mark.parametrize("service", SERVICES, ids=_name)
def test_a_service_of_the_host_is_protected_and_the_reason_names_it(service: ProcessFacts) -> None:
    reason = _why(service)
    assert reason is not None
    assert reason.startswith(f"it is {service.exe}, which ")


@pytest.mark.parametrize("service", SERVICES, ids=_name)
def test_a_service_that_renamed_itself_is_protected_all_the_same(service: ProcessFacts) -> None:
    assert _why(replace(service, name="kworker/0:1", command_line="")) is not None


@pytest.mark.parametrize("service", SERVICES, ids=_name)
def test_a_service_whose_file_an_upgrade_replaced_is_protected_all_the_same(service: ProcessFacts) -> None:
    assert _why(replace(service, exe=service.exe + " (deleted)")) is not None


@pytest.mark.parametrize("service", SERVICES, ids=_name)
@pytest.mark.parametrize(
    "decoy",
    [
        {"exe_trusted": False},
        {"exe": "/tmp/.x/sshd", "exe_trusted": False},
        {"exe": "/usr/bin/bash"},
        {"exe": "/usr/bin/python3.11"},
        {"cgroup": POD},
        {"cgroup": DOCKER},
        {"namespace_pid": 12},
        {"uid": 1000, "cgroup": SESSION, "oldest_in_cgroup": True},
        {"uid": 1000, "cgroup": "/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service"},
        {"uid": 33, "cgroup": "/system.slice/nginx.service", "oldest_in_cgroup": False},
        {"uid": 33, "cgroup": "/system.slice/nginx.service", "oldest_in_cgroup": True},
        {"uid": 1000, "oldest_in_cgroup": False},
    ],
    ids=str,
)
def test_a_decoy_that_copies_name_path_or_program_of_a_service_is_not_protected(
    service: ProcessFacts, decoy: dict[str, Any]
) -> None:
    assert _why(replace(service, **decoy)) is None


def test_every_entry_of_the_table_is_tried_by_a_service() -> None:
    untried = [entry for entry in TABLE if not any(entry.programs.fullmatch(service.exe) for service in SERVICES)]
    assert untried == []


@pytest.mark.parametrize("service", SERVICES, ids=_name)
def test_what_is_protected_as_a_process_is_protected_as_a_file_too(service: ProcessFacts) -> None:
    """But where its program is anything's (Java), or has names too many to be known (systemd's)."""
    (entry,) = (each for each in TABLE if each.programs.fullmatch(service.exe))
    reason = program_reason(service.exe)
    assert (reason is not None) == entry.files
    assert reason is None or entry.reason in reason
    assert entry.files or "java" in service.exe or "systemd" in service.exe


MONITOR = "conmon-" + "c" * 64 + ".scope"


@pytest.mark.parametrize(
    "cgroup", [f"/machine.slice/libpod-{MONITOR}", f"/a.slice/crio-{MONITOR}", "/libpod_parent/conmon"]
)
def test_a_container_monitor_is_protected_in_the_cgroup_that_names_its_container(cgroup: str) -> None:
    conmon = _service("/usr/bin/conmon", "", cgroup=cgroup)
    assert "holds up a running container" in str(_why(conmon))
    decoys = (
        {"exe": "/tmp/conmon", "exe_trusted": False},
        {"exe": "/usr/bin/bash"},
        {"uid": 1000},
        {"namespace_pid": 7},
        {"cgroup": f"/machine.slice/libpod-{'d' * 64}.scope/libpod-{MONITOR}"},
        {"cgroup": f"/machine.slice/libpod-{'d' * 64}.scope/conmon"},
    )
    assert [_why(replace(conmon, **decoy)) for decoy in decoys] == [None] * len(decoys)


def test_pid_1_and_kernel_threads_are_protected() -> None:
    assert "pid 1" in str(_why(replace(_facts(), pid=1, namespace_pid=1)))
    assert "kernel thread" in str(_why(_facts(kernel_thread=True, parent_pid=2)))


def test_the_init_of_a_pods_sandbox_is_protected_and_what_only_looks_like_it_is_not() -> None:
    assert _why(_facts(exe="/pause", name="pause", namespace_pid=1, pod_sandbox=True)) is not None
    assert _why(_facts(exe="/pause", name="pause", namespace_pid=1)) is None


def test_a_name_in_brackets_is_no_kernel_thread() -> None:
    assert _why(_facts(name="[kworker/0:1]", command_line="", exe="", parent_pid=2)) is None


@pytest.mark.parametrize("pid", LINE[:2])
def test_the_worker_and_its_ancestors_are_protected(pid: int) -> None:
    assert "this worker" in str(_why(replace(_facts(), pid=pid)))


def test_the_workers_own_unit_is_protected_and_a_shared_one_is_not() -> None:
    in_ours = _facts(cgroup="/system.slice/douse.service")
    below_ours = _facts(cgroup="/system.slice/douse.service/fetch")
    beside_ours = _facts(cgroup="/system.slice/douse.service.d")
    own = "/system.slice/douse.service"
    assert [_why(facts, own) is not None for facts in (in_ours, below_ours, beside_ours)] == [True, True, False]
    assert _why(in_ours, "") is None


def test_a_containers_own_root_does_not_protect_what_lies_outside_of_it() -> None:
    assert _why(_facts(cgroup="/"), "/") is not None
    assert _why(_facts(cgroup="/../cri-containerd-1"), "/") is None


def test_an_ssh_session_is_killable_though_it_runs_the_same_sshd() -> None:
    master = _service("/usr/sbin/sshd", "ssh.service")
    session = replace(master, cgroup="/user.slice/user-0.slice/session-9.scope", oldest_in_cgroup=True, parent_pid=777)
    without_pam = replace(master, oldest_in_cgroup=False, parent_pid=777)
    orphaned = replace(master, oldest_in_cgroup=False, parent_pid=1)
    assert [_why(facts) for facts in (session, without_pam, orphaned)] == [None, None, None]


def test_without_systemd_the_sshd_that_init_started_is_protected() -> None:
    assert _why(_service("/usr/sbin/sshd", "", cgroup="/", oldest_in_cgroup=False, parent_pid=1)) is not None


def test_what_a_database_started_in_its_own_unit_is_killable() -> None:
    shell = _service("/usr/bin/dash", "postgresql@15-main.service", uid=110, oldest_in_cgroup=False)
    copy_of_itself = _service(
        "/usr/lib/postgresql/15/bin/postgres", "postgresql@15-main.service", uid=110, oldest_in_cgroup=False
    )
    assert (_why(shell), _why(copy_of_itself)) == (None, None)
