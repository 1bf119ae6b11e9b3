"""Quarantine and restore on real files: everything comes back, nothing is half done, and each refusal is one answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.components import require as require_component
from tests.drivers.quarantine import MEGABYTE, TAKE, Rig
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.quarantined_files import ACL, CAPABILITY, NET_RAW, acl, copies, file_state, litter, reviewed
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.errors import PermanentFailure
from workers.domain.ids import id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import KernelFeatures

pytestmark = pytest.mark.slow

KERNELS = [KernelFeatures(), KernelFeatures(openat2=False, tmpfile=False)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


def take(rig: Rig, path: Path, **chosen: bool) -> Report:
    return rig.quarantine(os.fsencode(path), chosen)


def as_root(require: Callable[..., None]) -> None:
    require("root", "other users' files, mounts and flags need it")


# --- what comes back -------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    [
        b"mal",
        b"with space",
        b"new\nline",
        b"\xff\xfe not utf-8",
        b"n" * 255,
        "ü".encode(),
        b"-rf",
        b" ",
        b"a\tb",
        b"..mal",
    ]
)
_MODES = st.integers(0, 0o777) | st.sampled_from([0o000, 0o1777, 0o4755, 0o2755, 0o6711])
_STRETCHES = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=5000)), max_size=4)


@settings(max_examples=60)
@given(
    name=_NAMES,
    stretches=_STRETCHES,
    length=st.just(0) | st.integers(0, 300_000),
    mode=_MODES,
    times=st.tuples(st.integers(0, 1 << 60), st.integers(0, 1 << 60)),
    owner=st.tuples(st.integers(0, 70_000), st.integers(0, 70_000)),
    attributes=st.dictionaries(st.sampled_from(["user.a", "user.b-c"]), st.binary(max_size=200), max_size=2),
    listed=st.booleans(),
    capable=st.booleans(),
    kernel=st.sampled_from(KERNELS),
)
def test_every_field_of_a_file_comes_back(
    name: bytes,
    stretches: list[tuple[int, bytes]],
    length: int,
    mode: int,
    times: tuple[int, int],
    owner: tuple[int, int],
    attributes: dict[str, bytes],
    listed: bool,
    capable: bool,
    kernel: KernelFeatures,
) -> None:
    """Stretches of data at blocks of 4 KiB, holes between them and behind them."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "files" / os.fsdecode(name)
        path.parent.mkdir()
        with path.open("wb") as file:
            for block, data in stretches:
                os.pwrite(file.fileno(), data, block * 4096)
            file.truncate(max(length, path.stat().st_size))
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            os.chown(path, *owner)
        path.chmod(mode)
        for key, value in attributes.items():
            os.setxattr(path, key, value)
        if listed:
            os.setxattr(path, ACL, acl(mode, user=1234))
        if capable and os.geteuid() == 0:
            os.setxattr(path, CAPABILITY, NET_RAW)
        os.utime(path, ns=times)
        rig = Rig(Path(directory) / "rig", kernel=kernel)
        before = file_state(path)
        taken = take(rig, path)
        assert taken.outcome is Outcome.COMPLETED, taken
        assert list(path.parent.iterdir()) == []
        back = rig.restore()
        assert back.outcome is Outcome.COMPLETED, back
        assert file_state(path) == before
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_empty_file_and_a_path_of_4096_bytes_go_and_come_back(files: Path, tmp_path: Path) -> None:
    directory, path = os.open(files, os.O_RDONLY), os.fsencode(files)
    while len(path) < 4096 - 260:
        os.mkdir(b"d" * 200, dir_fd=directory)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory, path = below, path + b"/" + b"d" * 200
    name = b"n" * min(255, 4096 - len(path) - 1)
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=directory))
    rig = Rig(tmp_path / "rig")
    assert rig.quarantine(path + b"/" + name).outcome is Outcome.COMPLETED
    assert os.listdir(directory) == []  # noqa: PTH208 - its path is too long to be listed by name
    assert rig.restore().outcome is Outcome.COMPLETED
    assert os.listdir(directory) == [os.fsdecode(name)]  # noqa: PTH208
    os.close(directory)


@pytest.mark.fault("F22")
def test_a_sparse_file_of_a_tebibyte_is_refused_before_it_is_read(files: Path, tmp_path: Path) -> None:
    path = files / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    began = time.monotonic()
    answer = take(Rig(tmp_path / "rig"), path)
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, "too_large")
    assert time.monotonic() - began < 20
    assert path.stat().st_size == 1 << 40


def test_a_sparse_file_within_the_limit_comes_back_sparse(files: Path, tmp_path: Path) -> None:
    path = files / "sparse"
    with path.open("wb") as file:
        file.seek(30 * MEGABYTE)
        file.write(b"end")
    before = file_state(path)
    rig = Rig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    assert rig.restore().outcome is Outcome.COMPLETED
    assert file_state(path).content == before.content
    assert path.stat().st_blocks * 512 < MEGABYTE


def test_what_lies_in_the_vault_is_for_its_owner_only_and_does_not_run(files: Path, tmp_path: Path) -> None:
    path = files / "script"
    path.write_bytes(b"#!/bin/sh\necho pwned\n")
    path.chmod(0o755)
    rig = Rig(tmp_path / "rig")
    answer = take(rig, path)
    stored = Path(str(answer.outputs["quarantined_file_path"]))
    assert stored.stat().st_mode & 0o7777 == 0o400
    assert stored.parent.stat().st_mode & 0o7777 == 0o700
    with pytest.raises(OSError, match=r"Permission denied|Exec format"):
        subprocess.run([stored], check=False)


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
@pytest.mark.parametrize(("taken_by", "undone_by"), [("auto", "auto"), ("one", "one"), ("auto", "one")])
def test_a_setuid_file_comes_back_by_an_undo_of_the_class_that_took_it(
    mode: int, taken_by: str, undone_by: str, files: Path, tmp_path: Path
) -> None:
    path = files / "su"
    path.write_bytes(b"x")
    path.chmod(mode)
    before = file_state(path)
    assert take(Rig(tmp_path / "rig", approval_class=taken_by), path).outcome is Outcome.COMPLETED
    assert Rig(tmp_path / "rig", approval_class=undone_by).restore().outcome is Outcome.COMPLETED
    assert file_state(path) == before


@pytest.mark.parametrize(("taken_by", "undone_by"), [("two", "auto"), ("two", "one"), ("one", "auto"), ("one", "")])
def test_a_setuid_file_is_not_given_back_by_an_undo_of_a_lower_class(
    taken_by: str, undone_by: str, files: Path, tmp_path: Path
) -> None:
    path = files / "su"
    path.write_bytes(b"x")
    path.chmod(0o4755)
    assert take(Rig(tmp_path / "rig", approval_class=taken_by), path).outcome is Outcome.COMPLETED
    refused = Rig(tmp_path / "rig", approval_class=undone_by).restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "approval_missing")
    assert list(files.iterdir()) == []


def test_an_existing_file_is_never_overwritten(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evil")
    rig = Rig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    path.write_bytes(b"mine")
    refused = rig.restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_conflict")
    assert path.read_bytes() == b"mine"
    path.unlink()
    assert Rig(tmp_path / "rig").restore().outcome is Outcome.COMPLETED
    assert path.read_bytes() == b"evil"


def test_without_its_directory_a_file_stays_in_the_vault(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evil")
    rig = Rig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    (tmp_path / "other").mkdir()
    files.rmdir()
    refused = rig.restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_parent_missing")
    files.symlink_to(tmp_path / "other")
    refused = rig.restore()
    assert refused.outcome is Outcome.REJECTED
    assert refused.code in {"symlink_in_path", "restore_parent_missing"}
    files.unlink()
    (tmp_path / "other").rename(files)  # the same path, another directory
    refused = rig.restore()
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "restore_parent_missing")
    assert list(files.iterdir()) == []
    assert copies(files, tmp_path / "rig" / "vault", b"evil") == ["object"]


def test_a_second_quarantine_finds_nothing_and_a_second_restore_does_nothing(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evil")
    rig = Rig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    again = rig.quarantine(os.fsencode(path), execution_id=id_from_cause(1, "again"))
    assert (again.outcome, again.code) == (Outcome.REJECTED, "missing")
    assert rig.restore().outcome is Outcome.COMPLETED
    assert rig.restore(execution_id=id_from_cause(1, "once more")).outcome is Outcome.NO_ACTION
    assert path.read_bytes() == b"evil"


def test_eight_threads_quarantine_and_restore_at_once(files: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    paths = [files / str(number) for number in range(40)]
    for path in paths:
        path.write_bytes(os.urandom(3000))
    before = [file_state(path).content for path in paths]

    def both(number: int) -> list[Outcome]:
        taken, back = (id_from_cause(1, what, str(number)) for what in ("taken", "back"))
        first = rig.quarantine(os.fsencode(paths[number]), execution_id=taken)
        return [first.outcome, rig.restore(of=taken, execution_id=back).outcome]

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(both, range(len(paths))))
    assert outcomes == [[Outcome.COMPLETED] * 2] * len(paths)
    assert [file_state(path).content for path in paths] == before
    assert litter(files) == []


# --- what is refused, with one clear answer --------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def symlink(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    if os.geteuid() != 0:
        require_component("root", "only root makes device nodes")
    os.mknod(path, 0o20600, os.makedev(1, 5))


@pytest.mark.fault("F22")
@pytest.mark.parametrize("make", [fifo, unix_socket, symlink, directory, device])
def test_only_regular_files_are_taken(make: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    path = files / "odd"
    make(path)
    before = os.lstat(path)
    answer = take(Rig(tmp_path / "rig"), path)
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, "not_regular"), answer
    assert answer.message
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert litter(files) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/dev/null", ""),
        ("/dev/zero", ""),
        ("/proc/self/status", ""),
        ("/proc/version", "protected_target"),
        ("/sys/kernel/notes", ""),
        ("/etc/passwd", "protected_target"),
        ("/etc/shadow", ""),
        (sys.executable, ""),
    ],
)
def test_devices_kernel_files_accounts_and_the_worker_itself_are_refused(path: str, code: str, tmp_path: Path) -> None:
    before = os.lstat(path)
    answer = Rig(tmp_path / "rig").quarantine(path.encode())
    assert answer.outcome is Outcome.REJECTED, answer
    assert code in ("", answer.code)
    assert os.lstat(path).st_ino == before.st_ino


def test_a_file_in_the_vault_is_protected_whatever_it_is_called(files: Path, tmp_path: Path) -> None:
    (files / "first").write_bytes(b"x")
    rig = Rig(tmp_path / "rig")
    assert take(rig, files / "first").outcome is Outcome.COMPLETED  # makes the vault
    kept = tmp_path / "rig" / "vault" / "kept"
    kept.write_bytes(b"")
    answer = rig.quarantine(os.fsencode(kept), execution_id=id_from_cause(1, "again"))
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, "protected_target")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"relative", "invalid_target"),
        (b"/a/../b", "invalid_target"),
        (b"/tmp/\x00", "invalid_target"),
        (b"/" + b"x" * 4096, "invalid_target"),
        (b"/tmp/" + b"y" * 256, "invalid_target"),
        (b"", "invalid_target"),
        (b"/", ""),
    ],
)
def test_a_path_that_is_none_is_refused(path: bytes, code: str, tmp_path: Path) -> None:
    answer = Rig(tmp_path / "rig").quarantine(path)
    assert answer.outcome is Outcome.REJECTED, answer
    assert code in ("", answer.code)


def test_a_path_of_4095_bytes_is_no_crash(tmp_path: Path) -> None:
    deep = b"/" + b"/".join([b"d" * 100] * 40)
    assert Rig(tmp_path / "rig").quarantine(deep[:4095]).code == "missing"


def test_a_link_on_the_way_is_refused(files: Path, tmp_path: Path) -> None:
    (files / "mal").write_bytes(b"x")
    (tmp_path / "link").symlink_to(files)
    for kernel in KERNELS:
        answer = take(Rig(tmp_path / "rig", kernel=kernel), tmp_path / "link" / "mal")
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "symlink_in_path")
        assert "files/mal" in answer.message, "the real path is not named"
    assert (files / "mal").exists()


def test_a_hard_linked_file_needs_the_flag_and_then_loses_its_execute_permission(files: Path, tmp_path: Path) -> None:
    path, other = files / "mal", files / "other"
    path.write_bytes(b"x")
    path.chmod(0o755)
    other.hardlink_to(path)
    refused = take(Rig(tmp_path / "rig"), path)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "hardlinked")
    assert path.exists()
    rig = Rig(tmp_path / "rig")
    assert take(rig, path, force_hardlinked=True).outcome is Outcome.COMPLETED
    assert not path.exists()
    assert other.stat().st_mode & 0o777 == 0o644
    assert rig.restore().outcome is Outcome.COMPLETED
    assert path.stat().st_mode & 0o777 == 0o755


def test_an_immutable_file_needs_the_flag_and_comes_back_with_all_its_flags(
    files: Path, tmp_path: Path, require: Callable[..., None]
) -> None:
    as_root(require)
    path = files / "mal"
    path.write_bytes(b"x")
    require("chattr", "flags to set", present=_flag(path, "+iad"))
    try:
        refused = take(Rig(tmp_path / "rig"), path)
        assert (refused.outcome, refused.code) == (Outcome.REJECTED, "immutable")
        rig = Rig(tmp_path / "rig")
        assert take(rig, path, allow_immutable=True).outcome is Outcome.COMPLETED
        assert rig.restore().outcome is Outcome.COMPLETED
        with pytest.raises(PermissionError):
            path.unlink()
        shown = subprocess.run(["lsattr", path], capture_output=True, text=True, check=True).stdout
        assert {"i", "a", "d"} <= set(shown.split()[0])
    finally:
        _flag(path, "-iad")


def _flag(path: Path, flags: str) -> bool:
    return subprocess.run(["chattr", flags, path], check=False).returncode == 0


@contextmanager
def mounted(at: Path, *options: str, source: str = "tmpfs", kind: str = "tmpfs") -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, *options, source, str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def test_a_read_only_mount_is_reported_as_one(tmp_path: Path, require: Callable[..., None]) -> None:
    as_root(require)
    with mounted(tmp_path / "ro", "-o", "size=1m") as at:
        (at / "mal").write_bytes(b"x")
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        answer = take(Rig(tmp_path / "rig"), at / "mal")
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "refused_readonly"), answer
        assert (at / "mal").read_bytes() == b"x"


def test_a_full_vault_leaves_the_file_where_it_was(files: Path, tmp_path: Path, require: Callable[..., None]) -> None:
    as_root(require)
    path = files / "mal"
    path.write_bytes(os.urandom(400_000))
    before, inode = file_state(path), path.stat().st_ino
    with mounted(tmp_path / "small", "-o", "size=256k") as at:
        answer = take(Rig(tmp_path / "rig", vault_at=at / "vault"), path)
        assert (answer.outcome, answer.code.rpartition("_error_")[2]) in {
            (Outcome.FAILED, "failed_enospc"),
            (Outcome.REJECTED, "failed_enospc"),
        }, answer
        assert (file_state(path), path.stat().st_ino) == (before, inode)
        assert litter(files) == []
        assert not [entry for entry in (at / "vault").iterdir() if "part" in entry.name]


def test_a_full_quota_is_refused_and_the_file_stays(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(os.urandom(20_000))
    answer = take(Rig(tmp_path / "rig", limits=VaultLimits(50 * MEGABYTE, 10_000, 0)), path)
    assert "refused_quota" in answer.code, answer
    assert path.exists()
    assert litter(files) == []


@pytest.mark.fault("F22")
def test_a_file_that_grows_beyond_the_limit_keeps_its_name(files: Path, tmp_path: Path) -> None:
    path = files / "log"
    path.write_bytes(b"x" * 900_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set():
                file.write(b"y" * 200_000)
                file.flush()

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        answer = take(Rig(tmp_path / "rig", limits=VaultLimits(MEGABYTE, 1 << 40, 0)), path)
    finally:
        stop.set()
        growing.join()
    assert answer.outcome in (Outcome.REJECTED, Outcome.FAILED), answer
    assert path.exists()
    assert litter(files) == []


def test_a_file_that_is_written_to_meanwhile_is_taken_with_its_writer_named_or_keeps_its_name(
    files: Path, tmp_path: Path
) -> None:
    path = files / "log"
    path.write_bytes(os.urandom(MEGABYTE))
    program = "import sys\nf=open(sys.argv[1],'ab',0)\nwhile True: f.write(b'g'*65536)"
    writer = subprocess.Popen([sys.executable, "-c", program, path])
    try:
        ended = take(Rig(tmp_path / "rig", limits=VaultLimits(8 * MEGABYTE, 1 << 30, 0)), path)
    finally:
        writer.kill()
        writer.wait()
    if ended.outcome is Outcome.COMPLETED:
        assert ended.outputs["content_changed"] is True
        assert int(ended.outputs["open_handles"]) >= 1
    else:
        assert ended.code.rpartition("_error_")[2] == "too_large", ended
        assert path.exists()
    assert litter(files) == []


# --- a file that changes before it is taken --------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["content", "touch", "links", "replaced"])
def test_what_a_person_reviewed_must_not_have_changed(change: str, files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"malware" * 1000)
    before = reviewed(path)
    match change:
        case "content":
            path.write_bytes(b"M" * 7000)
        case "touch":
            os.utime(path)
        case "links":
            (files / "other").hardlink_to(path)
        case "replaced":
            (files / "other").write_bytes(b"malware" * 1000)
            (files / "other").rename(path)
    answer = Rig(tmp_path / "rig").quarantine(os.fsencode(path), reviewed=before)
    assert answer.outcome is Outcome.REJECTED
    assert answer.code in {"target_changed", "hardlinked"}
    assert path.exists()


def test_a_file_that_changes_after_its_claim_is_taken_as_found(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"malware")
    rig, action = Rig(tmp_path / "rig"), FileQuarantine()
    job = rig.quarantine_job(os.fsencode(path), TAKE)
    claim = action.bind(job, rig.host)
    path.write_bytes(b"changed")
    ended = action.execute(job, claim, rig.host)
    assert (ended.outcome, ended.outputs["content_changed"]) == (Outcome.COMPLETED, True)


# --- a crash anywhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", FileQuarantine.failpoints)
def test_killed_at_any_step_a_quarantine_is_finished_by_the_next_start(
    place: str, kernel: KernelFeatures, files: Path, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    path = files / "mal"
    path.write_bytes(content)
    before = file_state(path)
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        take(Rig(tmp_path / "rig", armed=armed, kernel=kernel), path)
    assert copies(files, tmp_path / "rig" / "vault", content), f"{place}: the content is nowhere"
    answer = take(Rig(tmp_path / "rig", kernel=kernel), path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert copies(files, tmp_path / "rig" / "vault", content) == ["object"]
    assert list(files.iterdir()) == []
    assert Rig(tmp_path / "rig", kernel=kernel).restore().outcome is Outcome.COMPLETED
    assert file_state(path) == before


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", FileUnquarantine.failpoints)
def test_killed_at_any_step_a_restore_is_finished_by_the_next_start(
    place: str, kernel: KernelFeatures, files: Path, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    path = files / "mal"
    path.write_bytes(content)
    path.chmod(0o751)
    before = file_state(path)
    assert take(Rig(tmp_path / "rig", kernel=kernel), path).outcome is Outcome.COMPLETED
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        Rig(tmp_path / "rig", armed=armed, kernel=kernel).restore()
    assert "object" in copies(files, tmp_path / "rig" / "vault", content), place
    if path.exists():
        assert file_state(path).content == before.content, f"{place}: half a file under the final name"
    answer = Rig(tmp_path / "rig", kernel=kernel).restore()
    assert answer.outcome is Outcome.COMPLETED, answer
    assert file_state(path) == before
    assert [entry.name for entry in files.iterdir()] == ["mal"]


def test_the_manifest_of_another_node_is_not_believed(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"x")
    assert take(Rig(tmp_path / "rig"), path).outcome is Outcome.COMPLETED
    (tmp_path / "rig" / "node.key").unlink()
    answer = Rig(tmp_path / "rig").restore()
    assert answer.outcome is not Outcome.COMPLETED
    assert list(files.iterdir()) == []
    assert (tmp_path / "rig" / "vault" / TAKE).exists()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", [each for each in FileQuarantine.failpoints if each[-1] in "123"])
def test_a_failure_before_anything_is_stored_gives_the_file_its_name_back(
    place: str, kernel: KernelFeatures, files: Path, tmp_path: Path
) -> None:
    path = files / "mal"
    path.write_bytes(b"malware" * 1000)
    before = file_state(path)
    armed = FakeFailpoints()
    armed.arm(place, error=PermanentFailure("the disk fails", code="io_error"))
    ended = take(Rig(tmp_path / "rig", armed=armed, kernel=kernel), path)
    assert ended.code == "file_quarantine_error_io_error"
    assert (file_state(path), litter(files)) == (before, [])


def test_a_changed_manifest_or_object_restores_nothing(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"malware" * 1000)
    rig = Rig(tmp_path / "rig")
    kept = Path(str(take(rig, path).outputs["quarantined_file_path"]))
    kept.chmod(0o600)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-8] + bytes(8))
    refused = rig.restore()
    assert refused.code == "file_unquarantine_error_object_damaged", refused
    assert list(files.iterdir()) == []
    kept.write_bytes(whole)
    manifest = kept.with_name(kept.name + ".manifest")
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes().replace(b"a", b"b"))
    refused = rig.restore(execution_id=id_from_cause(1, "again"))
    assert (refused.outcome, refused.code) == (Outcome.FAILED, "manifest_damaged")
    assert list(files.iterdir()) == []
