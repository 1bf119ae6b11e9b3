"""Files inside containers, on real overlays: taken, given back and acquired byte for byte, through no link and on no
host path, whatever root inside the container does meanwhile.

The container is made by hand (``tests.cells``); ``test_docker_files`` has one of a real engine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cells import Cell
from tests.drivers.acquire import GATHER, KEY, AcquireRig
from tests.drivers.quarantine import BACK, NOON_NS, TAKE, Rig, naming
from tests.drivers.traced import TracedDriver, sweep
from tests.exchanger import Exchanger, inode_of
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.quarantined_files import copies, file_state, litter
from workers.actions.file_acquire import FileAcquire
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.errors import CommandRejected, WorkerError, reason_of
from workers.domain.ids import id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.custody import custody_key
from workers.domain.targets.file import Enclosure, FileFacts, FileIdentity, FileKind, Location
from workers.domain.targets.manifest import Manifest, intent
from workers.host.files.quarantine.vault import KernelFeatures
from workers.system.failpoints import KILLED, VARIABLE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

KERNELS = [KernelFeatures(), KernelFeatures(openat2=False, tmpfile=False)]
MAL = "/tmp/mal"


@pytest.fixture(params=[False, True], ids=["one filesystem", "layers apart"])
def cell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path / "cell", apart=request.param)
    yield made
    made.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Cell]:
    made = Cell(tmp_path / "cell")
    yield made
    made.close()


def rig_of(cell: Cell, at: Path, **more: object) -> Rig:
    return Rig(at, inside=cell.inside, **more)  # type: ignore[arg-type]


def put(cell: Cell, content: bytes, *, low: bool, name: str = MAL) -> Path:
    """A file of the image, or one that the container wrote; where the host sees it once the container runs."""
    if low:
        (cell.lower / name.lstrip("/")).write_bytes(content)
        (cell.lower / name.lstrip("/")).chmod(0o751)
        cell.start()
    else:
        cell.start()
        cell.path(name).write_bytes(content)
        cell.path(name).chmod(0o751)
    return cell.path(name)


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("low", [True, False], ids=["of the image", "written"])
def test_a_file_goes_and_comes_back_as_it_was(cell: Cell, kernel: KernelFeatures, low: bool, tmp_path: Path) -> None:
    path = put(cell, os.urandom(70_000), low=low)
    os.setxattr(path, "user.note", b"kept")
    before = file_state(path)
    rig = rig_of(cell, tmp_path / "rig", kernel=kernel)
    taken = rig.quarantine(MAL.encode())
    assert taken.outcome is Outcome.COMPLETED, taken
    assert taken.outputs["container_id"] == cell.inside.container_id
    assert taken.outputs["content_changed"] is False
    assert list(path.parent.iterdir()) == []
    back = rig.restore()
    assert back.outcome is Outcome.COMPLETED, back
    after = file_state(path)
    assert after.content == before.content
    assert (after.mode, after.uid, after.mtime_ns, after.attributes) == (
        before.mode,
        before.uid,
        before.mtime_ns,
        before.attributes,
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["mal"]


def test_hard_links_of_the_image_that_copying_up_tears_apart_are_taken_all_the_same(cell: Cell, tmp_path: Path) -> None:
    """The named inode becomes another one by being moved: it is made so before, and known by its new identity."""
    (cell.lower / "tmp" / "other").write_bytes(b"evil")
    (cell.lower / "tmp" / "mal").hardlink_to(cell.lower / "tmp" / "other")
    cell.start()
    before = cell.path(MAL).stat().st_ino
    rig = rig_of(cell, tmp_path / "rig")
    taken = rig.quarantine(MAL.encode(), {"force_hardlinked": True})
    assert taken.outcome is Outcome.COMPLETED, taken
    manifest = rig.vault.manifest(TAKE)
    assert manifest is not None
    assert manifest.file.inode != before, "this overlay keeps the inode, and the test shows nothing"
    assert not cell.path(MAL).exists()
    assert cell.path("/tmp/other").read_bytes() == b"evil"
    assert "1 more name(s) that it had in its image remain, as they were" in taken.message


def test_what_the_container_saw_is_acquired(cell: Cell, tmp_path: Path) -> None:
    path = put(cell, os.urandom(70_000), low=True)
    before = path.stat()
    rig = AcquireRig(tmp_path / "rig", inside=cell.inside)
    answer = rig.acquire(MAL.encode())
    assert answer.outcome is Outcome.COMPLETED, answer
    assert hashlib.sha256((rig.objects / KEY).read_bytes()).hexdigest() == file_state(path).content
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    custody = rig.spool.custody(GATHER)
    assert custody is not None
    assert (custody.container_id, custody.run_started_at_ns) == (cell.inside.container_id, cell.inside.started_at_ns)
    assert custody.root.inode == cell.path("/").stat().st_ino


# --- which container, and which run -----------------------------------------------------------------------------------


def test_the_next_run_of_the_same_container_gets_its_file_back(cell: Cell, tmp_path: Path) -> None:
    path = put(cell, b"evil", low=False)
    rig = rig_of(cell, tmp_path / "rig")
    assert rig.quarantine(MAL.encode()).outcome is Outcome.COMPLETED
    rig.put_in(cell.start())
    assert rig.restore().outcome is Outcome.COMPLETED
    path = cell.path(MAL)
    assert path.read_bytes() == b"evil"


def test_a_container_that_is_gone_or_does_not_run_gets_nothing_and_the_vault_keeps_it(
    plain: Cell, tmp_path: Path
) -> None:
    put(plain, b"evil", low=False)
    rig = rig_of(plain, tmp_path / "rig")
    assert rig.quarantine(MAL.encode()).outcome is Outcome.COMPLETED
    plain.stop()
    rig.put_in(Enclosure(plain.inside.container_id, plain.inside.started_at_ns, 0))
    refused = rig.restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_container_gone")
    assert "start it" in refused.message
    rig.put_in(None)
    refused = rig.restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_container_gone")
    assert str(tmp_path / "rig" / "vault" / TAKE) in refused.message
    assert copies(tmp_path / "rig" / "none", tmp_path / "rig" / "vault", b"evil") == ["object"]


def test_another_container_of_the_same_image_gets_nothing(plain: Cell, tmp_path: Path) -> None:
    """Its runtime tells a run whose root is another one: refused by the root's own inode."""
    put(plain, b"evil", low=False)
    rig = rig_of(plain, tmp_path / "rig")
    assert rig.quarantine(MAL.encode()).outcome is Outcome.COMPLETED
    other = Cell(tmp_path / "other")
    try:
        rig.put_in(other.start())
        refused = rig.restore()
        assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_parent_missing")
        assert not other.path(MAL).exists()
    finally:
        other.close()


def test_a_pid_that_somebody_else_has_by_now_is_not_its_init(plain: Cell, tmp_path: Path) -> None:
    plain.start()
    stranger = subprocess.Popen(["sleep", "100"])
    try:
        reported = Enclosure(plain.inside.container_id, plain.inside.started_at_ns - 60_000_000_000, stranger.pid)
        Path("/tmp/douse-test-mal").write_bytes(b"host's")
        answer = Rig(tmp_path / "rig", inside=reported).quarantine(b"/tmp/douse-test-mal")
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "container_gone")
        young = Enclosure(plain.inside.container_id, plain.inside.started_at_ns + 60_000_000_000, stranger.pid)
        rig = Rig(tmp_path / "young", inside=young)
        with pytest.raises(CommandRejected) as caught:  # though it is old enough, its root is the host's
            rig.vault.hold_for_quarantine(_manifest(young), young)
        assert caught.value.reason == "container_root_shared"
        assert Path("/tmp/douse-test-mal").read_bytes() == b"host's"
    finally:
        stranger.kill()
        stranger.wait()
        Path("/tmp/douse-test-mal").unlink(missing_ok=True)


def _manifest(inside: Enclosure) -> Manifest:
    here = FileIdentity(1, 2)
    facts = FileFacts(FileKind.REGULAR, here, here, (), 0, 0, 0, 0, 1, 0, 0, 0)
    return intent(
        TAKE, facts, Location(MAL.encode(), inside), parking=b".p", now_ns=1, clear_flags=False, approval_class="auto"
    )


# --- what must stay, and what leads out -------------------------------------------------------------------------------


def test_no_link_leads_out_of_the_container(cell: Cell, tmp_path: Path) -> None:
    """A plain open() of these through /proc/<pid>/root reaches the host's file: that is the baseline."""
    cell.start()
    victim = tmp_path / "precious"
    victim.write_bytes(b"the host's")
    outside = str(tmp_path)
    cell.run(f"ln -s / /tmp/top; ln -s {outside} /tmp/out; ln -s ../../../../../..{outside} /tmp/up; ")
    cell.run("ln -s /proc/1/root /tmp/magic; ln -s mal /tmp/link")
    for kernel in KERNELS:
        rig = AcquireRig(tmp_path / f"rig{kernel.openat2}", inside=cell.inside, kernel=kernel)
        for number, (path, code) in enumerate(
            {
                f"/tmp/top{outside}/precious": "symlink_in_path",
                "/tmp/out/precious": "symlink_in_path",
                "/tmp/up/precious": "symlink_in_path",
                f"/tmp/magic{outside}/precious": "symlink_in_path",
                f"/tmp/../..{outside}/precious": "invalid_target",
                "/tmp/link": "not_regular",
                f"{outside}/precious": "missing",  # a path of the host is none of the container's
            }.items()
        ):
            taken = rig.quarantine(path.encode(), execution_id=id_from_cause(NOON_NS, "q", str(number)))
            read = rig.acquire(path.encode(), execution_id=id_from_cause(NOON_NS, "a", str(number)))
            assert (taken.code, read.code) == (code, code), path
    assert victim.read_bytes() == b"the host's"
    assert list((tmp_path / "rigTrue" / "vault").glob("0*")) == []


def test_a_protected_file_of_the_host_stays_one_wherever_it_is_mounted(plain: Cell, tmp_path: Path) -> None:
    """Also where only a part of a protected tree is mounted, from which no way up leads to the tree's own directory."""
    own = tmp_path / "own"
    (own / "deep" / "er").mkdir(parents=True)
    (own / "deep" / "er" / "key").write_bytes(b"secret")
    (plain.lower / "mnt").mkdir()
    (plain.lower / "tmp" / "one").write_bytes(b"")
    plain.start(
        f"mount --bind {own}/deep/er mnt; mount --bind /etc/passwd tmp/one; mkdir -p proc sys; "
        "mount -t proc proc proc; mount -t sysfs sysfs sys"
    )
    rig = AcquireRig(tmp_path / "rig", inside=plain.inside, own={own: "holds this node's keys"})
    for number, path in enumerate(
        [b"/mnt/key", b"/tmp/one", b"/proc/version", b"/proc/sys/kernel/hostname", b"/sys/kernel/notes"]
    ):
        answer = rig.quarantine(path, execution_id=id_from_cause(NOON_NS, "q", str(number)))
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "protected_target"), (path, answer)
    for number, path in enumerate([b"/mnt/key", b"/proc/version", b"/sys/kernel/notes"]):
        answer = rig.acquire(path, execution_id=id_from_cause(NOON_NS, "a", str(number)))
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "protected_target"), (path, answer)
    assert (own / "deep" / "er" / "key").read_bytes() == b"secret"


def test_a_volume_is_the_containers_and_a_read_only_one_is_reported_as_one(plain: Cell, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "mal").write_bytes(b"evil")
    for name in ("rw", "ro"):
        (plain.lower / name).mkdir()
    plain.start(f"mount --bind {volume} rw; mount --bind {volume} ro; mount -o remount,ro,bind ro")
    rig = rig_of(plain, tmp_path / "rig")
    refused = rig.quarantine(b"/ro/mal")
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "refused_readonly")
    assert rig.quarantine(b"/rw/mal", execution_id=id_from_cause(1, "rw")).outcome is Outcome.COMPLETED
    assert list(volume.iterdir()) == []
    rig.put_in(plain.start(f"mount --bind {volume} rw"))
    assert rig.restore(of=id_from_cause(1, "rw")).outcome is Outcome.COMPLETED
    assert (volume / "mal").read_bytes() == b"evil"


@pytest.mark.parametrize("path", ["/etc/shadow", "/etc/ssl/private/x", "/root/.ssh/id_rsa", "/run/secrets/token"])
def test_the_secrets_of_a_container_take_two_people(plain: Cell, path: str, tmp_path: Path) -> None:
    (plain.lower / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (plain.lower / path.lstrip("/")).write_bytes(b"secret")
    plain.start()
    rig = AcquireRig(tmp_path / "rig", inside=plain.inside)
    answer = rig.acquire(path.encode())
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, "approval_missing")
    assert rig.spool.kept() == []


# --- a crash anywhere -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [True, False], ids=["of the image", "written"])
@pytest.mark.parametrize("place", FileQuarantine.failpoints)
def test_killed_at_any_step_a_quarantine_is_finished_by_the_next_start(
    plain: Cell, place: str, low: bool, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    path = put(plain, content, low=low)
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        rig_of(plain, tmp_path / "rig", armed=armed).quarantine(MAL.encode())
    assert copies(path.parent, tmp_path / "rig" / "vault", content), f"{place}: the content is nowhere"
    answer = rig_of(plain, tmp_path / "rig").quarantine(MAL.encode())
    assert answer.outcome is Outcome.COMPLETED, answer
    assert list(path.parent.iterdir()) == []


def finished(cell: Cell, rig: Path) -> Report:
    """As a node finishes it: what is still UNKNOWN is tried again. The kernel lets go of the former run's mount of the
    same layers a moment after that run's last process; until then it may call a directory not empty that is."""
    answer = rig_of(cell, rig).quarantine(MAL.encode())
    for _ in range(50):
        if answer.outcome is not Outcome.UNKNOWN:
            break
        time.sleep(0.1)
        answer = rig_of(cell, rig).quarantine(MAL.encode())
    return answer


@pytest.mark.parametrize("place", FileQuarantine.failpoints)
def test_killed_at_any_step_and_its_container_started_again_it_is_finished_too(
    cell: Cell, place: str, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    put(cell, content, low=False)
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        rig_of(cell, tmp_path / "rig", armed=armed).quarantine(MAL.encode())
    cell.start()
    assert finished(cell, tmp_path / "rig").outcome is Outcome.COMPLETED
    assert list(cell.path("/tmp").iterdir()) == []


def test_a_container_that_ended_while_its_file_was_parked_is_reported_with_the_path_of_the_file(
    plain: Cell, tmp_path: Path
) -> None:
    put(plain, b"evil", low=False)
    armed = FakeFailpoints()
    armed.arm("file_quarantine.q1")
    with pytest.raises(Crash):
        rig_of(plain, tmp_path / "rig", armed=armed).quarantine(MAL.encode())
    plain.stop()
    rig = Rig(tmp_path / "rig", inside=plain.inside)
    rig.put_in(None)
    answer = rig.quarantine(MAL.encode())
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "file_quarantine_error_container_gone"), answer
    assert ".douse-" in answer.message


@pytest.mark.parametrize("place", FileUnquarantine.failpoints)
def test_killed_at_any_step_a_restore_is_finished_by_the_next_start(plain: Cell, place: str, tmp_path: Path) -> None:
    content = os.urandom(50_000)
    path = put(plain, content, low=True)
    before = file_state(path)
    assert rig_of(plain, tmp_path / "rig").quarantine(MAL.encode()).outcome is Outcome.COMPLETED
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        rig_of(plain, tmp_path / "rig", armed=armed).restore()
    if path.exists():
        assert path.read_bytes() == content, f"{place}: half a file under the final name"
    answer = rig_of(plain, tmp_path / "rig").restore()
    assert answer.outcome is Outcome.COMPLETED, answer
    assert (file_state(path).content, file_state(path).mode, file_state(path).mtime_ns) == (
        before.content,
        before.mode,
        before.mtime_ns,
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["mal"]


@pytest.mark.parametrize("place", FileAcquire.failpoints)
def test_killed_at_any_step_acquiring_goes_on_and_leaves_one_object(plain: Cell, place: str, tmp_path: Path) -> None:
    content = os.urandom(50_000)
    put(plain, content, low=True)
    command = [sys.executable, "-m", "tests.drivers.acquire", str(tmp_path / "rig"), MAL]
    environment = {**os.environ, VARIABLE: f"{place}=kill", **naming(plain.inside)}
    assert subprocess.run(command, env=environment, check=False, timeout=60).returncode == KILLED
    rig = AcquireRig(tmp_path / "rig", inside=plain.inside)
    answer = rig.acquire(MAL.encode())
    assert answer.outcome is Outcome.COMPLETED, answer
    stored = sorted(str(each.relative_to(rig.objects)) for each in rig.objects.rglob("*") if each.is_file())
    assert stored == [KEY, custody_key(KEY)]
    assert (rig.objects / KEY).read_bytes() == content


_CALLS = ("fsync", "renameat2", "rename", "mkdir", "mkdirat", "unlinkat", "unlink", "rmdir", "linkat", "chmod")


@pytest.mark.parametrize("verb", ["quarantine", "restore"])
def test_killed_at_any_call_that_changes_the_disk_nothing_is_lost(
    verb: str, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("strace", "it kills the driver at each system call")
    content = os.urandom(20_000)

    def once(call: str, nth: int) -> bool:
        site, where = tmp_path / f"{call}-{nth}", f"{verb} {call} {nth}"
        cell = Cell(site / "cell")
        try:
            path, rig = put(cell, content, low=True), site / "rig"
            if verb == "restore":
                assert rig_of(cell, rig).quarantine(MAL.encode()).outcome is Outcome.COMPLETED
            else:
                rig_of(cell, rig)  # its key is not part of what is swept
            fault = f"{call}:signal=KILL:when={nth}"
            run = driver.run(str(rig), verb, MAL, inject=fault, environment=naming(cell.inside))
            assert run.injected or run.status == 0, f"{where}: {run}"
            assert copies(path.parent, rig / "vault", content), f"{where}: the content is nowhere"
            if path.exists():
                assert path.read_bytes() == content, f"{where}: half a file under its name"
            again = rig_of(cell, rig)
            answer = again.quarantine(MAL.encode()) if verb == "quarantine" else again.restore()
            assert answer.outcome is Outcome.COMPLETED, f"{where}: {answer}"
            left = [entry.name for entry in path.parent.iterdir()]
            assert left == ([] if verb == "quarantine" else ["mal"]), f"{where}: left {left}"
            return run.injected
        finally:
            cell.close()

    with TracedDriver("tests.drivers.quarantine", tmp_path) as driver:
        hit = sweep(_CALLS, once, most=40)
    print(f"\n{verb} in a container: killed at {hit} points, lost 0, half done 0")
    assert hit >= 10, "the sweep did not reach the steps"


# --- root inside, as fast as it can -----------------------------------------------------------------------------------


@pytest.mark.fault("F21")
@pytest.mark.parametrize("rounds", [200, pytest.param(2000, marks=pytest.mark.faults)])
@pytest.mark.parametrize("other", ["directory", "link to the host's path"])
def test_exchanging_directories_inside_leads_nowhere(plain: Cell, other: str, rounds: int, tmp_path: Path) -> None:
    """Root inside exchanges the directory of the claimed file with one that holds a file of the same name that must not
    be touched, or with a link that has, from the host's root, the host's own file behind it."""
    plain.start()
    one = plain.path("/tmp/one")
    one.mkdir()
    precious = tmp_path / "host" / "mal"
    precious.parent.mkdir()
    if other == "directory":
        precious = plain.path("/tmp/other/mal")
        precious.parent.mkdir()
    else:
        plain.path("/tmp/other").symlink_to(precious.parent)
    precious.write_bytes(b"precious")
    inode = precious.stat().st_ino
    with Exchanger(Path("/tmp/one"), Path("/tmp/other"), root=f"/proc/{plain.inside.pid}/root") as exchanger:
        counts, naive = _race(plain, exchanger, rig_of(plain, tmp_path / "rig"), inode, rounds)
    if other == "directory":
        assert [path.read_bytes() for path in _holders(plain, inode)] == [b"precious"]
    else:
        assert precious.read_bytes() == b"precious"
    print(
        f"\n{rounds} rounds that came to the file, escapes 0: {dict(counts)}; by path alone {naive} would have hit it"
    )


def _race(plain: Cell, exchanger: Exchanger, rig: Rig, inode: int, rounds: int) -> tuple[Counter[str], int]:
    counts: Counter[str] = Counter()
    action, number, naive = FileQuarantine(), 0, 0
    while counts.total() < rounds:
        number += 1
        assert number < rounds * 50, f"the rounds do not come to the file: {counts}"
        exchanger.pause()
        for name in ("one", "other"):
            at = plain.path(f"/tmp/{name}")
            if at.is_symlink() or inode_of(at / "mal") == inode:
                continue
            (at / "mal").write_bytes(b"evil")
            for parked in at.glob(".douse-*"):  # of a round whose directory was elsewhere at its end
                shutil.rmtree(parked)
        exchanger.resume()
        job = rig.quarantine_job(b"/tmp/one/mal", id_from_cause(NOON_NS, "race", str(number)))
        try:
            claim = action.bind(job, rig.host)
        except WorkerError:
            continue
        if claim.inode == inode:
            continue
        naive += inode_of(plain.path("/tmp/one") / "mal") == inode
        try:
            output = action.execute(job, claim, rig.host).code.rpartition("_error_")[2]
        except WorkerError as error:
            output = reason_of(error)
        counts["taken" if output.startswith("file_quarantine_success") else output] += 1
    return counts, naive


def _holders(plain: Cell, inode: int) -> list[Path]:
    return [p for p in (plain.path("/tmp/one/mal"), plain.path("/tmp/other/mal")) if inode_of(p) == inode]


def test_nothing_is_left_behind(cell: Cell, tmp_path: Path) -> None:
    path = put(cell, b"x", low=False)
    rig = rig_of(cell, tmp_path / "rig")
    assert rig.quarantine(MAL.encode()).outcome is Outcome.COMPLETED
    assert rig.restore(execution_id=BACK).outcome is Outcome.COMPLETED
    assert litter(path.parent) == []
