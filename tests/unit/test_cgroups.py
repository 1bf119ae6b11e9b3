"""Cgroup hierarchies as they are mounted: version 1, version 2, both, and the part that a container sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.host.processes import cgroups
from workers.host.processes.cgroups import Cgroups


def _mountinfo(*mounts: tuple[str, str, str, str]) -> str:
    return "".join(
        f"{number} 24 0:{number} {root} {point} rw,relatime shared:{number} - {kind} cgroup rw,{controllers}\n"
        for number, (root, point, kind, controllers) in enumerate(mounts, 30)
    )


@pytest.fixture
def hierarchy(tmp_path: Path) -> Path:
    for part in ("freezer/a/b", "unified/system.slice/x.service", "systemd/system.slice/y.service"):
        (tmp_path / part).mkdir(parents=True)
    return tmp_path


def _hybrid(hierarchy: Path, root: str = "/") -> Cgroups:
    return Cgroups(
        _mountinfo(
            (root, f"{hierarchy}/freezer", "cgroup", "freezer"),
            (root, f"{hierarchy}/systemd", "cgroup", "name=systemd"),
            (root, f"{hierarchy}/unified", "cgroup2", "nsdelegate"),
            ("/", f"{hierarchy}/bind", "ext4", "errors=remount-ro"),
        )
    )


@pytest.mark.parametrize(("state", "frozen"), [("FROZEN\n", True), ("FREEZING\n", True), ("THAWED\n", False)])
def test_version_1_shows_frozen_by_its_freezer(hierarchy: Path, state: str, frozen: bool) -> None:
    (hierarchy / "freezer/a/b/freezer.state").write_text(state, encoding="ascii")
    assert _hybrid(hierarchy).frozen({"freezer": "/a/b"}) is frozen


@pytest.mark.parametrize(("events", "frozen"), [("populated 1\nfrozen 1\n", True), ("populated 1\nfrozen 0\n", False)])
def test_version_2_shows_frozen_by_its_events(hierarchy: Path, events: str, frozen: bool) -> None:
    (hierarchy / "unified/system.slice/x.service/cgroup.events").write_text(events, encoding="ascii")
    assert _hybrid(hierarchy).frozen({"": "/system.slice/x.service"}) is frozen


def test_a_container_that_sees_only_its_own_part_finds_its_files_there(hierarchy: Path) -> None:
    (hierarchy / "freezer/freezer.state").write_text("FROZEN\n", encoding="ascii")
    assert _hybrid(hierarchy, root="/docker/1").frozen({"freezer": "/docker/1"})


def test_members_are_those_of_the_hierarchy_that_services_live_in(hierarchy: Path) -> None:
    (hierarchy / "unified/system.slice/x.service/cgroup.procs").write_text("7\n8\n", encoding="ascii")
    (hierarchy / "systemd/system.slice/y.service/cgroup.procs").write_text("9\n", encoding="ascii")
    assert _hybrid(hierarchy).members({"": "/system.slice/x.service", "name=systemd": "/"}) == (7, 8)
    assert _hybrid(hierarchy).members({"": "/", "name=systemd": "/system.slice/y.service"}) == (9,)
    assert _hybrid(hierarchy).members({"": "/", "name=systemd": "/"}) == ()


def test_what_cannot_be_read_counts_as_empty(hierarchy: Path) -> None:
    assert not _hybrid(hierarchy).frozen({"freezer": "/gone", "": "/gone"})
    assert _hybrid(hierarchy).members({"": "/gone"}) == ()
    assert not Cgroups("").frozen({"freezer": "/a/b", "": "/"})
    assert not Cgroups("no mountinfo\n - \n").frozen({"freezer": "/a"})


@pytest.mark.parametrize(
    ("path", "unit", "pod"),
    [
        ("/system.slice/douse.service", True, False),
        ("/system.slice/system-douse.slice/douse@a.service", True, False),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/douse.service", False, False),
        ("/user.slice/user-1000.slice/session-3.scope", False, False),
        ("/system.slice/docker-1.scope", False, True),
        ("/docker/1", False, True),
        ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope", False, True),
        ("/", False, False),
    ],
)
def test_units_of_the_system_and_pods_are_distinguished_from_sessions(path: str, unit: bool, pod: bool) -> None:
    assert (cgroups.is_unit(path), cgroups.is_pod(path)) == (unit, pod)


def test_a_cgroup_namespace_of_its_own_is_known_by_its_number() -> None:
    assert not cgroups.in_container("cgroup:[4026531835]")
    assert cgroups.in_container("cgroup:[4026532604]")
    assert not cgroups.in_container("")
