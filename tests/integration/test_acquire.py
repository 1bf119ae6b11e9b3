"""Acquiring real files: one clear answer for each odd one, one object whatever crashes, and nothing left behind."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.drivers.acquire import GATHER, KEY, AcquireRig
from tests.drivers.quarantine import MEGABYTE, NODE
from tests.quarantined_files import ACL, CAPABILITY, NET_RAW, acl
from workers.actions.file_acquire import FileAcquire
from workers.domain.outcome import Outcome, Report
from workers.domain.targets.custody import custody_key
from workers.host.files.quarantine.vault import KernelFeatures
from workers.system.failpoints import KILLED, VARIABLE

pytestmark = pytest.mark.slow

_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root is not on this machine: only root makes device nodes")
KERNELS = [KernelFeatures(), KernelFeatures(openat2=False, tmpfile=False)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    made = tmp_path / "files"
    made.mkdir()
    return made


def take(rig: AcquireRig, path: Path, **chosen: bool) -> Report:
    return rig.acquire(os.fsencode(path), chosen)


def stored(rig: AcquireRig) -> list[str]:
    """Everything in the store, part files too."""
    return sorted(str(each.relative_to(rig.objects)) for each in rig.objects.rglob("*") if each.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refused(rig: AcquireRig, path: Path, code: str) -> None:
    answer = take(rig, path)
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, code), answer
    assert answer.message
    assert stored(rig) == []
    assert rig.spool.kept() == []


# --- what arrives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", [b"mal", b"new\nline", b"\xff\xfe", b"n" * 255, b"-rf"])
@pytest.mark.parametrize("size", [0, 1, 3 * MEGABYTE + 17])
def test_the_object_is_the_file(name: bytes, size: int, kernel: KernelFeatures, files: Path, tmp_path: Path) -> None:
    path = files / os.fsdecode(name)
    path.write_bytes(os.urandom(size))
    before = path.stat()
    rig = AcquireRig(tmp_path / "rig", kernel=kernel)
    answer = take(rig, path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert stored(rig) == [KEY, custody_key(KEY)]
    assert sha256(rig.objects / KEY) == answer.outputs["sha256"] == sha256(path)
    assert answer.outputs["content_changed"] is False
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
    custody = rig.spool.custody(GATHER)
    assert custody is not None
    assert (custody.path, custody.sha256, custody.node_id) == (os.fsencode(path), answer.outputs["sha256"], NODE)


def test_nobody_else_may_look_into_spool_or_store(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"x")
    rig = AcquireRig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    for directory in (rig.objects, rig.objects / NODE, tmp_path / "rig" / "spool"):
        assert directory.stat().st_mode & 0o7777 == 0o700
    assert (rig.objects / KEY).stat().st_mode & 0o7777 == 0o400


def test_a_copy_on_the_stores_own_filesystem_is_the_object_and_is_let_go_all_the_same(
    files: Path, tmp_path: Path
) -> None:
    path = files / "mal"
    path.write_bytes(os.urandom(3 * MEGABYTE))
    killed = driven(tmp_path / "rig", path, "file_acquire.a2")
    assert killed.returncode == KILLED, killed
    (copy,) = (tmp_path / "rig" / "spool").glob("*.data")
    rig = AcquireRig(tmp_path / "rig")
    assert copy.stat().st_ino == (rig.objects / KEY).stat().st_ino, "no byte was written twice"
    assert take(rig, path).outcome is Outcome.COMPLETED
    assert not copy.exists()
    found = (rig.objects / KEY).stat()
    assert (found.st_nlink, found.st_mode & 0o7777) == (1, 0o400)


def test_a_copy_on_another_filesystem_is_copied_into_the_store(
    files: Path, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("root", "a small filesystem has to be mounted")
    path = files / "mal"
    path.write_bytes(os.urandom(100_000))
    with small_disk(tmp_path / "small") as at:
        rig = AcquireRig(tmp_path / "rig", spool_at=at / "spool", reserve=0)
        assert take(rig, path).outcome is Outcome.COMPLETED
        assert stored(rig) == [KEY, custody_key(KEY)]
        assert sha256(rig.objects / KEY) == sha256(path)


def test_a_sparse_file_is_its_logical_bytes(files: Path, tmp_path: Path) -> None:
    path = files / "sparse"
    with path.open("wb") as file:
        file.seek(20 * MEGABYTE)
        file.write(b"middle")
        file.truncate(30 * MEGABYTE)
    rig = AcquireRig(tmp_path / "rig")
    answer = take(rig, path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert sha256(rig.objects / KEY) == answer.outputs["sha256"] == sha256(path)


def test_a_growing_file_comes_to_an_end_and_its_digest_is_true(files: Path, tmp_path: Path) -> None:
    path = files / "log"
    path.write_bytes(b"x" * 4_000_000)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.wait(0.001) and file.tell() < 1 << 30:
                file.write(b"y" * 100_000)
                file.flush()

    rig = AcquireRig(tmp_path / "rig", largest=1 << 40)  # what the worker itself has open by now is never read
    growing = threading.Thread(target=grow)
    growing.start()
    try:
        answer = take(rig, path)
    finally:
        stop.set()
        growing.join()
    assert answer.outcome is Outcome.COMPLETED, answer
    assert answer.outputs["content_changed"] is True
    found = (rig.objects / KEY).read_bytes()
    assert hashlib.sha256(found).hexdigest() == answer.outputs["sha256"]
    assert path.read_bytes()[: len(found)] == found


def dressed(path: Path) -> None:
    """Everything that a file can have besides its content."""
    path.chmod(0o6755)
    os.setxattr(path, "user.note", b"kept")
    os.setxattr(path, ACL, acl(0o755, user=1234))
    if os.geteuid() == 0:
        os.setxattr(path, CAPABILITY, NET_RAW)


def linked(path: Path) -> None:
    path.with_name("other").hardlink_to(path)


def unreadable(path: Path) -> None:
    path.chmod(0)


@pytest.mark.parametrize("make", [dressed, linked, unreadable])
def test_what_a_file_has_besides_its_content_is_reported_and_left_alone(
    make: Callable[[Path], None], files: Path, tmp_path: Path
) -> None:
    """setuid, file capabilities, attributes, access lists, further names, no permission: read, never touched."""
    path = files / "mal"
    path.write_bytes(os.urandom(50_000))
    make(path)
    before, attributes = path.lstat(), sorted(os.listxattr(path))
    rig = AcquireRig(tmp_path / "rig")
    answer = take(rig, path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert sha256(rig.objects / KEY) == sha256(path)
    after = path.lstat()
    for name in ("st_ino", "st_mode", "st_nlink", "st_uid", "st_mtime_ns", "st_ctime_ns"):
        assert getattr(after, name) == getattr(before, name), name
    assert sorted(os.listxattr(path)) == attributes
    assert (answer.outputs["mode"], answer.outputs["links"]) == (stat.S_IMODE(before.st_mode), before.st_nlink)


def test_an_immutable_file_is_read_as_any_other(files: Path, tmp_path: Path, require: Callable[..., None]) -> None:
    require("root", "inode flags are root's")
    path = files / "mal"
    path.write_bytes(b"x")
    flagged = subprocess.run(["chattr", "+i", path], check=False)
    require("chattr", "a flag has to be set", present=flagged.returncode == 0)
    try:
        rig = AcquireRig(tmp_path / "rig")
        assert take(rig, path).outcome is Outcome.COMPLETED
        assert (rig.objects / KEY).read_bytes() == b"x"
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_a_read_only_mount_is_read_as_any_other(tmp_path: Path, require: Callable[..., None]) -> None:
    require("root", "a filesystem has to be mounted")
    with small_disk(tmp_path / "ro") as at:
        (at / "mal").write_bytes(b"x")
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        rig = AcquireRig(tmp_path / "rig")
        assert take(rig, at / "mal").outcome is Outcome.COMPLETED
        assert (rig.objects / KEY).read_bytes() == b"x"


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_path_of_4096_bytes_is_reached(kernel: KernelFeatures, files: Path, tmp_path: Path) -> None:
    """One byte more than one system call takes."""
    path, at = os.fsencode(files), os.open(files, os.O_RDONLY)
    while len(path) < 4096 - 260:
        os.mkdir(b"d" * 200, dir_fd=at)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at, path = below, path + b"/" + b"d" * 200
    name = b"n" * min(255, 4096 - len(path) - 1)
    with os.fdopen(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at), "wb") as file:
        file.write(b"deep")
    os.close(at)
    rig = AcquireRig(tmp_path / "rig", kernel=kernel)
    assert len(path + b"/" + name) == 4096
    answer = rig.acquire(path + b"/" + name)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert (rig.objects / KEY).read_bytes() == b"deep"


# --- what is refused, with one clear answer --------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


@pytest.mark.parametrize("make", [fifo, unix_socket, link_to_zero, directory, pytest.param(device, marks=_AS_ROOT)])
def test_only_regular_files_are_taken(make: Callable[[Path], None], files: Path, tmp_path: Path) -> None:
    make(files / "odd")
    refused(AcquireRig(tmp_path / "rig"), files / "odd", "not_regular")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/dev/zero", "protected_target"),
        ("/proc/self/environ", "symlink_in_path"),
        ("/proc/1/maps", "protected_target"),
        ("/sys/kernel/notes", "protected_target"),
        ("/proc/kcore", "protected_target"),
        ("/etc/shadow", "approval_missing"),
    ],
)
def test_devices_kernel_files_and_passwords_are_refused(path: str, code: str, tmp_path: Path) -> None:
    if Path(path).exists():
        refused(AcquireRig(tmp_path / "rig"), Path(path), code)


def test_a_sparse_tebibyte_is_refused_before_it_is_read(files: Path, tmp_path: Path) -> None:
    with (files / "huge").open("wb") as file:
        file.truncate(1 << 40)
    refused(AcquireRig(tmp_path / "rig"), files / "huge", "too_large")


def test_a_file_of_the_worker_itself_is_refused(files: Path, tmp_path: Path) -> None:
    (files / "keys").mkdir()
    (files / "keys" / "plain").write_bytes(b"key")
    rig = AcquireRig(tmp_path / "rig", own={files / "keys": "holds this node's keys"})
    refused(rig, files / "keys" / "plain", "protected_target")
    hard = files / "innocent"
    (files / "id_rsa").write_bytes(b"key")
    hard.hardlink_to(files / "id_rsa")
    refused(AcquireRig(tmp_path / "rig2"), files / "id_rsa", "approval_missing")


def test_a_hard_link_to_the_passwords_is_the_passwords(tmp_path: Path, require: Callable[..., None]) -> None:
    require("root", "only root may link to it")
    link = Path("/etc/.douse-test-innocent")
    try:
        link.hardlink_to("/etc/shadow")
    except OSError as error:
        pytest.skip(f"/etc/shadow cannot be linked to here: {error}")
    try:
        refused(AcquireRig(tmp_path / "rig"), link, "approval_missing")
    finally:
        link.unlink()


def test_a_link_on_the_way_is_refused(files: Path, tmp_path: Path) -> None:
    (files / "mal").write_bytes(b"x")
    (tmp_path / "link").symlink_to(files)
    for number, kernel in enumerate(KERNELS):
        refused(AcquireRig(tmp_path / f"rig{number}", kernel=kernel), tmp_path / "link" / "mal", "symlink_in_path")


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def test_a_full_spool_is_reported_and_nothing_stays(files: Path, tmp_path: Path, require: Callable[..., None]) -> None:
    require("root", "a small filesystem has to be mounted")
    path = files / "mal"
    path.write_bytes(os.urandom(2 * MEGABYTE))
    with small_disk(tmp_path / "small") as at:
        rig = AcquireRig(tmp_path / "rig", spool_at=at / "spool", reserve=0)
        answer = take(rig, path)
        assert (answer.outcome, answer.code) == (Outcome.FAILED, "failed_enospc"), answer
        assert rig.spool.kept() == []
    assert stored(rig) == []


def test_the_reserve_of_the_disk_is_not_for_evidence(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"x")
    rig = AcquireRig(tmp_path / "rig", reserve=1 << 60)
    answer = take(rig, path)
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "failed_enospc"), answer
    assert stored(rig) == []


# --- a crash anywhere ------------------------------------------------------------------------------------------------


def driven(directory: Path, path: Path, failpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.drivers.acquire", str(directory), str(path)],
        env={**os.environ, VARIABLE: f"{failpoint}=kill", **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("place", FileAcquire.failpoints)
def test_killed_at_any_step_it_is_gone_on_with_and_leaves_one_object(place: str, files: Path, tmp_path: Path) -> None:
    path = files / "log"
    path.write_bytes(os.urandom(50_000))
    killed = driven(tmp_path / "rig", path, place)
    assert killed.returncode == KILLED, killed
    rig = AcquireRig(tmp_path / "rig")
    before = {name: sha256(rig.objects / name) for name in stored(rig)}
    with path.open("ab") as file:
        file.write(b"one more line\n")
    answer = take(rig, path)
    assert answer.outcome is Outcome.COMPLETED, answer
    after = {name: sha256(rig.objects / name) for name in stored(rig)}
    assert set(after) == {KEY, custody_key(KEY)}
    assert before.items() <= after.items(), "nothing was overwritten"
    assert after[KEY] == answer.outputs["sha256"]
    assert [each.suffix for each in (tmp_path / "rig" / "spool").iterdir()] == [".delivered"]


def test_a_copy_that_was_changed_on_the_spool_is_never_stored(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evidence" * 1000)
    killed = driven(tmp_path / "rig", path, "file_acquire.a1")
    assert killed.returncode == KILLED, killed
    (copy,) = (tmp_path / "rig" / "spool").glob("*.data")
    copy.write_bytes(b"forgery!" * 1000)
    rig = AcquireRig(tmp_path / "rig")
    answer = take(rig, path)
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "spool_damaged"), answer
    assert stored(rig) == []
    assert rig.spool.kept() == []


def test_a_forged_custody_record_is_not_believed(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evidence")
    killed = driven(tmp_path / "rig", path, "file_acquire.a1")
    assert killed.returncode == KILLED, killed
    (record,) = (tmp_path / "rig" / "spool").glob("*.custody")
    forged = bytearray(record.read_bytes())
    forged[len(forged) // 2] ^= 1
    record.write_bytes(forged)
    rig = AcquireRig(tmp_path / "rig")
    answer = take(rig, path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert answer.outputs["sha256"] == sha256(path)


def test_what_another_object_has_under_the_name_is_not_overwritten(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evidence")
    rig = AcquireRig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    rig.spool.discard(GATHER)
    (tmp_path / "rig" / f"{GATHER}.claim").unlink()
    path.write_bytes(b"grown since")
    answer = take(AcquireRig(tmp_path / "rig"), path)
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "spool_lost"), answer
    assert (rig.objects / KEY).read_bytes() == b"evidence"


def test_a_store_directory_that_others_may_read_is_refused(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(b"evidence")
    rig = AcquireRig(tmp_path / "rig")
    rig.objects.mkdir(mode=0o755)
    rig.objects.chmod(0o755)
    answer = take(rig, path)
    assert (answer.outcome, answer.code) == (Outcome.FAILED, "store_refused"), answer
    assert rig.spool.kept() == []
