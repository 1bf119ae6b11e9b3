"""Which cgroups are named by a container's id and which users could have created them, on trees of files; bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.components import require as require_component
from workers.domain.targets.cgroup_names import ids_in
from workers.domain.targets.container import ContainerFacts, ContainerRef, ContainerState, protection
from workers.host.containers.bundles import labels_of
from workers.host.containers.cgroup_hierarchies import Hierarchies
from workers.host.containers.kernel.run_name import RunName, run_name

ID, OTHER = "a1" * 32, "b2" * 32


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        (f"/docker/{ID}", [ID]),
        (f"/system.slice/docker-{ID}.scope", [ID]),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", [ID]),
        (f"/kubepods/pod1:cri-containerd:{ID}", [ID]),
        (f"/machine.slice/libpod-{ID}.scope/container", [ID]),
        (f"/docker/{ID}/kubelet/kubepods/{OTHER}", [ID, OTHER]),
        (f"/machine.slice/libpod-conmon-{ID}.scope", []),
        (f"/docker/{ID}0", []),
        (f"/docker/{ID[:40]}", []),
        (f"/docker/{ID.upper()}", []),
        (f"/{ID}x", []),
        ("/system.slice/ssh.service", []),
        ("/", []),
    ],
)
def test_ids_are_read_out_of_the_names_that_runtimes_give(path: str, ids: list[str]) -> None:
    assert ids_in(path) == ids


def hierarchies(at: Path, *, root: str = "/", kind: str = "cgroup2 none rw") -> Hierarchies:
    return Hierarchies(f"30 1 0:2 {root} {at} rw - {kind}")


def tree(at: Path, path: str) -> Path:
    made = at / path.strip("/")
    made.mkdir(parents=True)
    for each in (made, *made.parents):
        if each.is_relative_to(at):
            each.chmod(0o755)
    return made


@pytest.fixture
def top(tmp_path: Path) -> Path:
    if tmp_path.stat().st_uid != 0:
        require_component("root", "another user owns what it creates", present=False)
    return tmp_path


def test_a_cgroup_is_the_systems_where_only_root_could_make_it(top: Path) -> None:
    made = tree(top, f"/docker/{ID}/inner")
    (cgroup,) = hierarchies(top).cgroups({"": f"/docker/{ID}/inner"}, ID[:12])
    assert (cgroup.directory, cgroup.id, cgroup.by_system) == (made.parent, ID, True)
    assert cgroup.inode == made.parent.stat().st_ino
    (top / "docker").chmod(0o775)
    (cgroup,) = hierarchies(top).cgroups({"": f"/docker/{ID}/inner"}, ID[:12])
    assert not cgroup.by_system


def test_the_same_id_further_inside_is_the_same_container_and_another_is_not_the_systems(top: Path) -> None:
    path = f"/machine/libpod-{ID}.scope/libpod-{ID}/docker-{OTHER}.scope"
    tree(top, path)
    (outer,) = hierarchies(top).cgroups({"": path}, ID)
    assert (outer.directory.name, outer.by_system) == (f"libpod-{ID}.scope", True)
    (inner,) = hierarchies(top).cgroups({"": path}, OTHER)
    assert not inner.by_system


def test_a_mount_that_shows_only_a_part_shows_only_that(top: Path) -> None:
    tree(top, f"/{ID}")
    part = hierarchies(top, root="/docker")
    assert [each.directory.name for each in part.cgroups({"": f"/docker/{ID}"}, ID)] == [ID]
    assert list(part.cgroups({"": f"/system.slice/{ID}"}, ID)) == []
    assert list(part.cgroups({"": f"/dockers/{ID}"}, ID)) == []
    assert list(part.cgroups({"": f"/../docker/{ID}"}, ID)) == []
    assert list(part.cgroups({"freezer": f"/docker/{ID}"}, ID)) == []
    whole = Hierarchies(f"30 1 0:2 /docker {top}/x rw - cgroup2 none rw\n31 1 0:2 / {top} rw - cgroup2 none rw")
    assert [each.directory for each in whole.cgroups({"": f"/{ID}"}, ID)] == [top / ID]


def test_version_1_has_a_hierarchy_for_each_controller(top: Path) -> None:
    tree(top, f"/docker/{ID}")
    old = hierarchies(top, kind="cgroup cgroup rw,freezer")
    assert [each.hierarchy for each in old.cgroups({"freezer": f"/docker/{ID}", "pids": f"/docker/{ID}"}, ID)] == [
        "freezer"
    ]


def test_a_cgroup_that_is_gone_is_not_found(top: Path) -> None:
    assert list(hierarchies(top).cgroups({"": f"/docker/{ID} (deleted)"}, ID)) == []
    assert list(hierarchies(top).cgroups({"": f"/docker/{ID}"}, ID)) == []


def test_a_name_travels_and_comes_back() -> None:
    for name in (RunName(True, 12, 4711, 815), RunName(False, 64, 1, 2)):
        assert run_name(ContainerRef(str(name), ID)) == name
    assert run_name(ContainerRef("/run/docker.sock", ID)) == RunName(True, 64, 0, 0)


@pytest.mark.parametrize(
    ("annotations", "labels"),
    [
        ({"io.kubernetes.cri.container-type": "sandbox"}, {"io.cri-containerd.kind": "sandbox"}),
        ({"io.kubernetes.cri-o.ContainerType": "sandbox"}, {"io.cri-containerd.kind": "sandbox"}),
        (
            {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-name": "web-0"},
            {"io.kubernetes.pod.name": "web-0"},
        ),
        ({"io.kubernetes.cri-o.ContainerType": "container"}, {"io.kubernetes.pod.name": ""}),
        ({"other": "sandbox"}, {}),
        (None, {}),
        ([], {}),
    ],
)
def test_a_bundle_shows_what_belongs_to_a_pod(tmp_path: Path, annotations: object, labels: dict[str, str]) -> None:
    bundle = tmp_path / "k8s.io" / ID
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"annotations": annotations}))
    pattern = f"{tmp_path}/*/{{id}}/config.json"
    found = labels_of(ID, (f"{tmp_path}/none/{{id}}", pattern))
    assert found == labels
    facts = ContainerFacts(ContainerRef("kernel:", ID), ContainerState.RUNNING, 0, labels=found)
    assert (protection(facts, own_ids=(), own_line=()) is not None) == ("sandbox" in labels.values())


@pytest.mark.parametrize("text", ["", "[]", "no json"])
def test_a_bundle_that_cannot_be_read_shows_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / f"{ID}.json").write_text(text)
    assert labels_of(ID, (f"{tmp_path}/{{id}}.json",)) == {}
