"""The actions on files whose path is one of a container, on fakes: which run is acted on, what is refused, and where an
undo goes. What only a kernel can show is in tests/integration/test_container_files.py."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.fakes.clock import FakeClock
from tests.fakes.containers import FakeContainer, FakeContainers
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.fakes.object_store import FakeObjectStore
from tests.fakes.processes import FakeProcesses
from tests.fakes.spool import FakeSpool
from tests.fakes.vault import FakeVault
from workers.actions.base import AnyAction, Begun, Job
from workers.actions.file_acquire import FileAcquire
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.command import ActionCommand, parameters_digest
from workers.domain.errors import CommandRejected, Indeterminate, TransientFailure
from workers.domain.ids import NO_EXECUTION, ExecutionId, Incarnation, KeyId, NodeId, id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.domain.request import Actor, ActorKind
from workers.domain.target import FileTarget
from workers.domain.targets.container import ContainerState
from workers.domain.targets.file import FileIdentity
from workers.domain.targets.manifest import ManifestState, in_run_of, is_same_directory
from workers.domain.targets.protected_files import ProtectedPaths, kernels_own
from workers.host.ports import Host

NOON_NS = 1_783_198_004_000_000_000
TAKEN = id_from_cause(NOON_NS, "taken")
BACK = id_from_cause(NOON_NS, "back")
NODE = NodeId("0" * 32)
PATH = b"/tmp/xmrig"
BOTH: list[AnyAction] = [FileQuarantine(), FileAcquire()]
each = pytest.mark.parametrize("action", BOTH, ids=lambda action: action.name)


@dataclass
class World:
    """A node with one container that has run for ten seconds, and in it a file."""

    clock: FakeClock = field(default_factory=lambda: FakeClock(NOON_NS))
    vault: FakeVault = field(default_factory=FakeVault)
    failpoints: FakeFailpoints = field(default_factory=FakeFailpoints)

    def __post_init__(self) -> None:
        self.containers = FakeContainers(self.clock)
        self.container = self.spawn()
        self.clock.advance(10)
        self.spool, self.objects = FakeSpool(self.vault), FakeObjectStore(NODE, self.clock)
        self.host = Host(
            FakeProcesses(self.clock),
            self.clock,
            self.failpoints,
            self.vault,
            self.spool,
            self.objects,
            self.containers,
        )

    def spawn(self, **facts: Any) -> FakeContainer:
        made = self.containers.spawn(**facts)
        self.vault.put(PATH, b"malware", container_id=made.facts.ref.id)
        return made

    def job(self, action: AnyAction, container_id: str = "", *, undo_of: ExecutionId = NO_EXECUTION) -> Job[Any]:
        now = self.clock.now_ns()
        target = FileTarget(PATH, now, container_id or self.container.facts.ref.id[:12])
        command = ActionCommand(
            command_id=BACK if undo_of else TAKEN,
            node_id=NODE,
            node_key=KeyId("k"),
            incarnation=Incarnation("i"),
            action=action.name,
            target=None if undo_of else target,
            parameters={},
            parameters_sha256=parameters_digest({}),
            issued_at_ns=now,
            not_before_ns=now,
            expires_at_ns=now + 300_000_000_000,
            timeout_s=60,
            actor=Actor(ActorKind.PERSON, "ada"),
            undo_of=undo_of,
        )
        return Job(command, action.parse({}), now + 60_000_000_000)

    def bind(self, action: AnyAction, container_id: str = "") -> tuple[Job[Any], Any]:
        job = self.job(action, container_id)
        action.admit(job, self.host)
        return job, action.bind(job, self.host)

    def run(self, action: AnyAction) -> Report:
        job, claim = self.bind(action)
        return action.execute(job, claim, self.host)

    def undo(self) -> Report:
        action = FileUnquarantine()
        job = self.job(action, undo_of=TAKEN)
        action.admit(job, self.host)
        return action.execute(job, action.bind(job, self.host), self.host)

    @property
    def key(self) -> bytes:
        return self.container.facts.ref.id.encode() + PATH


@pytest.fixture
def world() -> World:
    return World()


def refusal(world: World, action: AnyAction, container_id: str = "") -> str:
    with pytest.raises(CommandRejected) as caught:
        world.bind(action, container_id)
    assert world.vault.effects == 0
    assert world.spool.reads == 0
    return caught.value.reason


@each
def test_the_file_is_that_of_the_named_container(world: World, action: AnyAction) -> None:
    world.vault.put(PATH, b"the host's")
    report = world.run(action)
    assert report.outcome is Outcome.COMPLETED
    assert report.outputs["container_id"] == world.container.facts.ref.id
    assert report.outputs["container_started_at"] == world.container.facts.started_at_ns
    assert world.vault.files[PATH].content == b"the host's"


def test_its_manifest_names_the_run_it_was_taken_from(world: World) -> None:
    world.run(FileAcquire())
    world.run(FileQuarantine())
    manifest, facts = world.vault.manifests[TAKEN], world.container.facts
    assert (manifest.container_id, manifest.runtime) == (facts.ref.id, facts.ref.runtime)
    assert (manifest.run_started_at_ns, manifest.run_pid) == (facts.started_at_ns, facts.pid)
    (custody,) = world.spool.sealed.values()
    assert (custody.container_id, custody.run_started_at_ns) == (facts.ref.id, facts.started_at_ns)


@each
def test_a_host_path_needs_no_runtime(world: World, action: AnyAction) -> None:
    world.vault.put(PATH, b"the host's")
    job = world.job(action)
    command = replace(job.command, target=FileTarget(PATH, NOON_NS))
    host = replace(world.host, containers=None)
    claim = action.bind(replace(job, command=command), host)
    assert claim.container_id == ""
    assert action.execute(replace(job, command=command), claim, host).outcome is Outcome.COMPLETED


# --- refusals ---------------------------------------------------------------------------------------------------------


@each
def test_the_container_is_identified_as_for_the_actions_on_containers(world: World, action: AnyAction) -> None:
    assert refusal(world, action, "f" * 64) == "container_unknown"
    assert refusal(world, action, "xmrig") == "invalid_target"
    twins = [world.spawn(container_id="abcdef012345" + digit).facts.ref.id for digit in "12"]
    assert refusal(world, action, twins[0][:12]) == "container_ambiguous"
    world.clock.advance(1)
    job = world.job(action)
    world.containers.restart(world.container)
    with pytest.raises(CommandRejected) as caught:
        action.bind(job, world.host)
    assert caught.value.reason == "started_after"


@each
@pytest.mark.parametrize("state", [ContainerState.ENDED, ContainerState.CREATED, ContainerState.RESTARTING])
def test_a_container_that_does_not_run_shows_no_files(world: World, action: AnyAction, state: ContainerState) -> None:
    world.container.facts = replace(world.container.facts, state=state, pid=0)
    assert refusal(world, action) == "container_not_running"


@each
def test_the_word_of_a_users_own_runtime_for_a_pid_is_not_enough(world: World, action: AnyAction) -> None:
    world.container.facts = replace(world.container.facts, owner=1000)
    assert refusal(world, action) == "container_of_user"


@each
def test_without_a_runtime_it_is_refused(world: World, action: AnyAction) -> None:
    world.host = replace(world.host, containers=None)
    assert refusal(world, action) == "no_runtime"


@each
def test_a_runtime_that_does_not_answer_is_asked_again_later(world: World, action: AnyAction) -> None:
    world.containers.down = True
    with pytest.raises(TransientFailure):
        world.bind(action)


def test_a_protected_containers_files_are_not_taken_and_may_be_read(world: World) -> None:
    world.container.facts = replace(world.container.facts, labels={"douse.protected": "true"})
    assert refusal(world, FileQuarantine()) == "protected_target"
    assert world.bind(FileAcquire())


def test_this_workers_own_container_is_left_alone(world: World) -> None:
    world.containers.own.add(world.container.facts.ref.id)
    assert refusal(world, FileQuarantine()) == "protected_target"


@pytest.mark.parametrize("path", [b"/proc/kcore", b"/sys/firmware/x", b"//proc/x", b"/./sys/x"])
def test_what_a_runtime_hides_in_proc_and_sys_is_the_kernels(path: bytes) -> None:
    assert kernels_own(path)


@pytest.mark.parametrize("path", [b"/procs/x", b"/dev/shm/x", b"/dev/.hidden", b"/home/proc/x"])
def test_what_lies_elsewhere_is_not(path: bytes) -> None:
    assert kernels_own(path) is None


@each
def test_a_hosts_protected_file_is_protected_where_it_is_mounted(world: World, action: AnyAction) -> None:
    places = ProtectedPaths({world.vault.files[world.key].identity: "names this machine's users"})
    world.vault.protected = world.spool.secret = places
    assert refusal(world, action) in {"protected_target", "approval_missing"}


@each
def test_a_run_that_ended_after_the_claim_is_not_followed_into_the_next(world: World, action: AnyAction) -> None:
    job, claim = world.bind(action)
    world.vault.gone.add(world.container.facts.pid)
    world.containers.restart(world.container)
    with pytest.raises(CommandRejected) as caught:
        action.execute(job, claim, world.host)
    assert caught.value.reason == "container_gone"
    assert (world.vault.effects, world.spool.reads) == (0, 0)


# --- an overlay -------------------------------------------------------------------------------------------------------


def test_a_file_of_a_lower_layer_is_lifted_before_its_identity_is_written_down(world: World) -> None:
    file = world.vault.files[world.key]
    file.filesystem, before = "overlay", file.inode
    report = world.run(FileQuarantine())
    assert report.outcome is Outcome.COMPLETED
    assert world.vault.manifests[TAKEN].file.inode != before
    assert report.outputs["content_changed"] is False


def test_a_crash_between_lifting_and_the_manifest_does_not_lose_it(world: World) -> None:
    world.vault.files[world.key].filesystem = "overlay"
    job, claim = world.bind(FileQuarantine())
    world.vault.fail["record"] = [RuntimeError("the process is killed here")]
    with pytest.raises(RuntimeError):
        FileQuarantine().execute(job, claim, world.host)
    assert FileQuarantine().execute(job, claim, world.host).outcome is Outcome.COMPLETED


def test_another_file_on_an_overlay_is_not_taken_for_a_lifted_one(world: World) -> None:
    world.vault.files[world.key].filesystem = "overlay"
    job, claim = world.bind(FileQuarantine())
    world.vault.put(PATH, b"other", container_id=world.container.facts.ref.id, filesystem="overlay", mtime_ns=9)
    report = FileQuarantine().execute(job, claim, world.host)
    assert report.code == "file_quarantine_error_target_changed"
    assert world.vault.files[world.key].content == b"other"


# --- back -------------------------------------------------------------------------------------------------------------


def test_it_goes_back_into_the_run_that_the_container_has_now(world: World) -> None:
    world.run(FileQuarantine())
    world.vault.gone.add(world.container.facts.pid)
    world.containers.restart(world.container)
    assert world.undo().outcome is Outcome.COMPLETED
    assert world.vault.files[world.key].content == b"malware"


def test_of_a_container_that_ended_the_undo_advises_to_start_it(world: World) -> None:
    world.run(FileQuarantine())
    world.containers.end(world.container)
    with pytest.raises(CommandRejected, match="start it and undo once more") as caught:
        world.undo()
    assert caught.value.reason == "restore_container_gone"


def test_of_a_container_that_is_gone_the_undo_names_where_the_content_is(world: World) -> None:
    world.run(FileQuarantine())
    world.container.removed = True
    with pytest.raises(CommandRejected, match=f"/vault/{TAKEN}") as caught:
        world.undo()
    assert caught.value.reason == "restore_container_gone"
    assert world.vault.objects[TAKEN] == b"malware"


def test_a_container_that_goes_between_claim_and_return_loses_nothing(world: World) -> None:
    world.run(FileQuarantine())
    action = FileUnquarantine()
    job = world.job(action, undo_of=TAKEN)
    claim = action.bind(job, world.host)
    world.container.removed = True
    assert action.execute(job, claim, world.host).code == "file_unquarantine_error_restore_container_gone"
    assert world.vault.objects[TAKEN] == b"malware"


ROOT, PARENT, VOLUME = FileIdentity(40, 2), FileIdentity(40, 3), FileIdentity(8, 3)


@pytest.mark.parametrize(
    ("parent", "found", "root", "same"),
    [
        (PARENT, FileIdentity(40, 3), FileIdentity(40, 2), True),
        (PARENT, FileIdentity(41, 3), FileIdentity(41, 2), True),  # mounted anew, under another number
        (PARENT, FileIdentity(40, 3), FileIdentity(41, 2), False),
        (PARENT, FileIdentity(41, 4), FileIdentity(41, 2), False),
        (PARENT, FileIdentity(41, 3), FileIdentity(41, 9), False),  # another root
        (VOLUME, FileIdentity(8, 3), FileIdentity(41, 2), True),
        (VOLUME, FileIdentity(9, 3), FileIdentity(41, 2), False),
    ],
)
def test_a_directory_of_a_container_is_known_by_its_root(
    world: World, parent: FileIdentity, found: FileIdentity, root: FileIdentity, same: bool
) -> None:
    world.run(FileQuarantine())
    manifest = replace(world.vault.manifests[TAKEN], parent=parent, root=ROOT, file=FileIdentity(parent.device, 7))
    assert is_same_directory(manifest, found, root) is same
    of_host = replace(manifest, container_id="")
    assert is_same_directory(of_host, found, root) is (found == parent)
    if same:
        assert in_run_of(manifest, root).parent == found
        assert in_run_of(manifest, root).file == FileIdentity(found.device, 7)


# --- a crash, and its container not what it was -----------------------------------------------------------------------


def crashed(world: World, point: str) -> tuple[Job[Any], Any]:
    job, claim = world.bind(FileQuarantine())
    world.failpoints.arm(f"file_quarantine.{point}")
    with pytest.raises(Crash):
        FileQuarantine().execute(job, claim, world.host)
    return job, claim


@pytest.mark.parametrize("point", ["q0", "q1", "q2", "q3", "q4", "q5"])
def test_begun_in_one_run_it_is_finished_in_the_next(world: World, point: str) -> None:
    job, claim = crashed(world, point)
    world.vault.gone.add(world.container.facts.pid)
    world.containers.restart(world.container)
    assert isinstance(FileQuarantine().probe(job, claim, world.host), Begun)
    assert FileQuarantine().execute(job, claim, world.host).outcome is Outcome.COMPLETED


def test_while_the_runtime_is_unavailable_it_is_not_given_up(world: World) -> None:
    job, claim = crashed(world, "q1")
    world.vault.gone.add(world.container.facts.pid)
    world.containers.down = True
    with pytest.raises(Indeterminate):
        FileQuarantine().execute(job, claim, world.host)


def test_in_the_same_run_it_is_finished_though_the_runtime_is_unavailable(world: World) -> None:
    job, claim = crashed(world, "q1")
    world.containers.down = True
    assert FileQuarantine().execute(job, claim, world.host).outcome is Outcome.COMPLETED


@pytest.mark.parametrize(("point", "outcome"), [("q0", Outcome.FAILED), ("q4", Outcome.PARTIAL)])
def test_of_a_container_that_is_gone_it_reports_what_is_left(world: World, point: str, outcome: Outcome) -> None:
    job, claim = crashed(world, point)
    world.vault.gone.add(world.container.facts.pid)
    world.container.removed = True
    report = FileQuarantine().execute(job, claim, world.host)
    assert report.outcome is outcome
    assert "was removed" in report.message


def test_given_up_it_stays_given_up(world: World) -> None:
    job, claim = crashed(world, "q0")
    world.vault.gone.add(world.container.facts.pid)
    world.container.removed = True
    first = FileQuarantine().execute(job, claim, world.host)
    assert world.vault.manifests[TAKEN].state is ManifestState.RETURNED
    assert first.code == "file_quarantine_error_container_gone"
    assert FileQuarantine().execute(job, claim, world.host).code == first.code
