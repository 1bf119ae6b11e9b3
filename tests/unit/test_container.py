"""What follows from facts about a container: which one an id means, what protects it, what starts it again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.actions.base.container import claim_on_run
from workers.domain.errors import CommandRejected
from workers.domain.targets.container import (
    ContainerFacts,
    ContainerRef,
    ContainerState,
    RestartPolicy,
    choose,
    orchestrator,
    protection,
    unserved,
    will_return,
    without,
)

SEEN = 1_900_000_000_000_000_000
SECOND = 1_000_000_000
ID = "4a7c0de5f1e1".ljust(64, "a")


def facts(container_id: str = ID, *, socket: str = "/run/docker.sock", **more: object) -> ContainerFacts:
    made = ContainerFacts(ContainerRef(socket, container_id), ContainerState.RUNNING, SEEN - 10 * SECOND, pid=4711)
    return replace(made, **more)  # type: ignore[arg-type]


def refusal(*found: ContainerFacts, wanted: str = ID[:12], seen: int = SEEN, now: int = SEEN + SECOND) -> str:
    with pytest.raises(CommandRejected) as refused:
        choose(found, wanted, observed_at_ns=seen, now_ns=now)
    return refused.value.reason


@given(digits=st.integers(12, 64))
def test_twelve_digits_or_more_mean_the_one_container_that_begins_so(digits: int) -> None:
    other = facts("b" * 64)
    assert choose([other, facts()], ID[:digits], observed_at_ns=SEEN, now_ns=SEEN).ref.id == ID


@given(wanted=st.text(max_size=70))
def test_whatever_else_is_sent_is_refused(wanted: str) -> None:
    if len(wanted) < 12 or set(wanted) - set("0123456789abcdef"):
        assert refusal(facts(), wanted=wanted) == "invalid_target"


@pytest.mark.parametrize("wanted", ["web", "deadbeef", ID[:11], ID[:12].upper(), f"{ID}0", " " + ID[:12], ""])
def test_names_and_shorter_or_longer_ids_are_refused(wanted: str) -> None:
    assert refusal(facts(name="web"), wanted=wanted) == "invalid_target"


def test_none_and_several_are_refused() -> None:
    assert refusal() == "container_unknown"
    assert refusal(facts("b" * 64)) == "container_unknown"
    assert refusal(facts(), facts(ID[:13].ljust(64, "b"))) == "container_ambiguous"


def test_a_users_runtime_never_makes_an_id_of_roots_ambiguous() -> None:
    fake = facts(ID, socket="/run/user/1000/podman/podman.sock", owner=1000)
    chosen = choose([fake, facts()], ID[:12], observed_at_ns=SEEN, now_ns=SEEN)
    assert chosen.owner == 0
    assert choose([fake], ID[:12], observed_at_ns=SEEN, now_ns=SEEN) == fake


def test_a_run_that_is_younger_than_the_sighting_is_another() -> None:
    assert refusal(facts(started_at_ns=SEEN + 1)) == "started_after"
    assert choose([facts(started_at_ns=SEEN)], ID, observed_at_ns=SEEN, now_ns=SEEN).started_at_ns == SEEN


def test_a_sighting_without_a_time_or_from_the_future_proves_nothing() -> None:
    assert refusal(facts(), seen=0) == "identity_missing"
    assert refusal(facts(), seen=SEEN + 60 * SECOND, now=SEEN) == "identity_unclear"


@pytest.mark.parametrize(
    ("labels", "own_ids", "own_line"),
    [
        ({"douse.protected": "true"}, (), ()),
        ({"douse.protected": ""}, (), ()),
        ({"io.cri-containerd.kind": "sandbox"}, (), ()),
        ({"io.kubernetes.container.name": "POD"}, (), ()),
        ({"io.kubernetes.docker.type": "podsandbox"}, (), ()),
        ({}, (ID,), ()),
        ({}, (), (9, 4711)),
    ],
)
def test_protected_containers_are_known(
    labels: dict[str, str], own_ids: tuple[str, ...], own_line: tuple[int, ...]
) -> None:
    assert protection(facts(labels=labels), own_ids=own_ids, own_line=own_line) is not None


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {"douse.protected": "false"},
        {"douse.protected": "0"},
        {"io.kubernetes.container.name": "web"},
        {"io.cri-containerd.kind": "container"},
    ],
)
def test_others_are_not_protected(labels: dict[str, str]) -> None:
    assert protection(facts(labels=labels, pid=0), own_ids=("c" * 64,), own_line=(0, 9)) is None


def test_a_users_labels_protect_nothing() -> None:
    assert protection(facts(labels={"douse.protected": "true"}, owner=1000), own_ids=(), own_line=()) is None


def test_labels_of_the_image_are_ignored() -> None:
    labelled = facts(labels={"douse.protected": "true", "app": "web"})
    assert without(labelled, {"douse.protected": "true"}).labels == {"app": "web"}
    assert without(labelled, {"douse.protected": "false"}).labels == labelled.labels


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("io.kubernetes.pod.uid", "kubernetes"),
        ("com.docker.swarm.task.id", "swarm"),
        ("com.hashicorp.nomad.alloc_id", "nomad"),
        ("com.amazonaws.ecs.task-arn", "ecs"),
        ("PODMAN_SYSTEMD_UNIT", "systemd"),
        ("com.docker.compose.project", "compose"),
        ("io.containerd.namespace", "containerd"),
        ("app", ""),
    ],
)
def test_orchestrators_are_known_by_their_labels(label: str, name: str) -> None:
    assert orchestrator({label: "x", "other": "y"}) == name
    assert bool(will_return(name)) == bool(name)


@pytest.mark.parametrize(
    ("namespace", "name"), [("moby", "docker"), ("default", "nerdctl"), ("nomad", "nomad"), ("buildkit", "containerd")]
)
def test_who_keeps_a_namespace_of_containerd_is_named(namespace: str, name: str) -> None:
    labels = {"io.containerd.namespace": namespace}
    assert orchestrator(labels) == name
    assert repr(namespace) in unserved(labels)
    assert (name == "containerd") or name in unserved(labels)
    assert orchestrator(labels | {"com.hashicorp.nomad.alloc_id": "x"}) == "nomad"
    assert unserved({}) == "no trusted runtime has it"


def test_a_claim_keeps_which_run_it_was() -> None:
    running = facts(policy=RestartPolicy("on-failure", 3))
    claim = claim_on_run(running)
    assert claim.ref == running.ref
    assert claim.policy == running.policy
    assert claim.is_run_of(running)
    assert claim.is_run_of(replace(running, state=ContainerState.ENDED, pid=0))
    assert not claim.is_run_of(replace(running, pid=4712))
    assert not claim.is_run_of(replace(running, started_at_ns=SEEN))
