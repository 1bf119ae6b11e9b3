"""Quarantine and restore on real files: everything comes back, nothing is half done, and each refusal is one answer."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
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
from tests.quarantined_files import ACL, CAPABILITY, NET_RAW, acl, copies, litter, seen
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.ids import id_from_cause
from workers.domain.outcome import Outcome, Report
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import KernelFeatures

pytestmark = pytest.mark.slow

KERNELS = [KernelFeatures(), KernelFeatures(openat2=False, tmpfile=False)]
_FS_IOC_SETFLAGS = 0x40086602
_IMMUTABLE = 0x10


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
    [b"mal", b"with space", b"new\nline", b"\xff\xfe not utf-8", b"n" * 255, "ü".encode(), b"-rf", b"a\tb", b"..mal"]
)
_CONTENTS = st.one_of(st.just(b""), st.binary(max_size=2000), st.binary(min_size=1, max_size=8).map(lambda b: b * 9000))


@settings(max_examples=40)
@given(
    name=_NAMES,
    content=_CONTENTS,
    mode=st.sampled_from([0o644, 0o755, 0o400, 0o000, 0o777, 0o1777, 0o4755, 0o2755, 0o6711]),
    times=st.tuples(st.integers(0, 2**32 * 10**9), st.integers(0, 2**32 * 10**9)),
    owner=st.sampled_from([(0, 0), (1000, 1000), (65534, 12)]),
    attributes=st.dictionaries(st.sampled_from(["user.a", "user.b-c"]), st.binary(max_size=200), max_size=2),
    listed=st.booleans(),
    capable=st.booleans(),
    hole=st.booleans(),
    kernel=st.sampled_from(KERNELS),
)
def test_every_field_of_a_file_comes_back(
    name: bytes,
    content: bytes,
    mode: int,
    times: tuple[int, int],
    owner: tuple[int, int],
    attributes: dict[str, bytes],
    listed: bool,
    capable: bool,
    hole: bool,
    kernel: KernelFeatures,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "files" / os.fsdecode(name)
        path.parent.mkdir()
        with path.open("wb") as file:
            file.write(content)
            if hole:
                file.truncate(len(content) + 300_000)
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
        rig = Rig(Path(directory) / "rig", kernel=kernel, approval_class="two")
        before = seen(path)
        os.utime(path, ns=times)  # looking moved the access time
        taken = take(rig, path)
        assert taken.outcome is Outcome.COMPLETED, taken
        assert list(path.parent.iterdir()) == []
        back = rig.restore()
        assert back.outcome is Outcome.COMPLETED, back
        assert seen(path) == before
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


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
    before = seen(path)
    rig = Rig(tmp_path / "rig")
    assert take(rig, path).outcome is Outcome.COMPLETED
    assert rig.restore().outcome is Outcome.COMPLETED
    assert seen(path).content == before.content
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


def test_a_setuid_file_is_not_given_back_without_two_signatures(files: Path, tmp_path: Path) -> None:
    path = files / "su"
    path.write_bytes(b"x")
    path.chmod(0o4755)
    assert take(Rig(tmp_path / "rig"), path).outcome is Outcome.COMPLETED
    refused = Rig(tmp_path / "rig").restore()
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
    assert again.outcome is Outcome.NO_ACTION
    assert rig.restore().outcome is Outcome.COMPLETED
    assert rig.restore(execution_id=id_from_cause(1, "once more")).outcome is Outcome.NO_ACTION
    assert path.read_bytes() == b"evil"


def test_eight_hands_take_and_bring_back_at_once_and_none_stumbles_over_another(files: Path, tmp_path: Path) -> None:
    rig = Rig(tmp_path / "rig")
    paths = [files / str(number) for number in range(40)]
    for path in paths:
        path.write_bytes(os.urandom(3000))
    before = [seen(path).content for path in paths]

    def both(number: int) -> list[Outcome]:
        taken, back = (id_from_cause(1, what, str(number)) for what in ("taken", "back"))
        first = rig.quarantine(os.fsencode(paths[number]), execution_id=taken)
        return [first.outcome, rig.restore(of=taken, execution_id=back).outcome]

    with ThreadPoolExecutor(8) as hands:
        outcomes = list(hands.map(both, range(len(paths))))
    assert outcomes == [[Outcome.COMPLETED] * 2] * len(paths)
    assert [seen(path).content for path in paths] == before
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
    "path", ["/dev/null", "/proc/self/status", "/sys/kernel/notes", "/etc/passwd", "/etc/shadow", "/dev/zero"]
)
def test_devices_kernel_files_and_accounts_are_refused(path: str, tmp_path: Path) -> None:
    before = os.lstat(path)
    answer = Rig(tmp_path / "rig").quarantine(path.encode())
    assert answer.outcome is Outcome.REJECTED, answer
    assert os.lstat(path).st_ino == before.st_ino


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
    assert Rig(tmp_path / "rig").quarantine(deep[:4095]).outcome is Outcome.NO_ACTION


def test_a_link_on_the_way_is_refused(files: Path, tmp_path: Path) -> None:
    (files / "mal").write_bytes(b"x")
    (tmp_path / "link").symlink_to(files)
    for kernel in KERNELS:
        answer = take(Rig(tmp_path / "rig", kernel=kernel), tmp_path / "link" / "mal")
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, "symlink_in_path")
    assert (files / "mal").exists()


def test_a_hard_linked_file_needs_the_flag_and_then_loses_its_execute_permission(files: Path, tmp_path: Path) -> None:
    path, other = files / "mal", files / "other"
    path.write_bytes(b"x")
    path.chmod(0o755)
    other.hardlink_to(path)
    refused = take(Rig(tmp_path / "rig"), path)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "hardlinked")
    assert path.exists()
    assert take(Rig(tmp_path / "rig"), path, force_hardlinked=True).outcome is Outcome.COMPLETED
    assert not path.exists()
    assert other.stat().st_mode & 0o777 == 0o644


def test_an_immutable_file_needs_the_flag_and_comes_back_immutable(
    files: Path, tmp_path: Path, require: Callable[..., None]
) -> None:
    as_root(require)
    path = files / "mal"
    path.write_bytes(b"x")
    _flag(path, _IMMUTABLE)
    try:
        refused = take(Rig(tmp_path / "rig"), path)
        assert (refused.outcome, refused.code) == (Outcome.REJECTED, "immutable")
        rig = Rig(tmp_path / "rig")
        assert take(rig, path, allow_immutable=True).outcome is Outcome.COMPLETED
        assert rig.restore().outcome is Outcome.COMPLETED
        with pytest.raises(PermissionError):
            path.unlink()
    finally:
        _flag(path, 0)


def _flag(path: Path, flags: int) -> None:
    with path.open("rb") as file:
        fcntl.ioctl(file, _FS_IOC_SETFLAGS, struct.pack("l", flags))


@contextmanager
def mounted(at: Path, *options: str, source: str = "tmpfs", kind: str = "tmpfs") -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, *options, source, str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def test_a_read_only_mount_is_said_to_be_one(tmp_path: Path, require: Callable[..., None]) -> None:
    as_root(require)
    with mounted(tmp_path / "ro", "-o", "size=1m") as at:
        (at / "mal").write_bytes(b"x")
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        answer = take(Rig(tmp_path / "rig"), at / "mal")
        assert answer.outcome in (Outcome.REJECTED, Outcome.FAILED)
        assert "readonly" in answer.code or "read_only" in answer.code, answer
        assert (at / "mal").read_bytes() == b"x"


def test_a_full_vault_leaves_the_file_where_it_was(files: Path, tmp_path: Path, require: Callable[..., None]) -> None:
    as_root(require)
    content = os.urandom(400_000)
    path = files / "mal"
    path.write_bytes(content)
    before = path.stat()
    with mounted(tmp_path / "small", "-o", "size=256k") as at:
        answer = take(Rig(tmp_path / "rig", vault_at=at / "vault"), path)
        assert (answer.outcome, answer.code.rpartition("_error_")[2]) in {
            (Outcome.FAILED, "failed_enospc"),
            (Outcome.REJECTED, "failed_enospc"),
        }, answer
        after = path.stat()
        assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
        assert path.read_bytes() == content
        assert litter(files) == []
        assert not [entry for entry in (at / "vault").iterdir() if "part" in entry.name]


def test_a_full_quota_is_refused_and_the_file_stays(files: Path, tmp_path: Path) -> None:
    path = files / "mal"
    path.write_bytes(os.urandom(20_000))
    answer = take(Rig(tmp_path / "rig", limits=VaultLimits(50 * MEGABYTE, 10_000, 0)), path)
    assert "refused_quota" in answer.code, answer
    assert path.exists()
    assert litter(files) == []


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


# --- a crash anywhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", FileQuarantine.failpoints)
def test_killed_at_any_step_a_quarantine_is_finished_by_the_next_start(
    place: str, kernel: KernelFeatures, files: Path, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    path = files / "mal"
    path.write_bytes(content)
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        take(Rig(tmp_path / "rig", armed=armed, kernel=kernel), path)
    assert copies(files, tmp_path / "rig" / "vault", content), f"{place}: the content is nowhere"
    answer = take(Rig(tmp_path / "rig", kernel=kernel), path)
    assert answer.outcome is Outcome.COMPLETED, answer
    assert copies(files, tmp_path / "rig" / "vault", content) == ["object"]
    assert list(files.iterdir()) == []


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("place", FileUnquarantine.failpoints)
def test_killed_at_any_step_a_restore_is_finished_by_the_next_start(
    place: str, kernel: KernelFeatures, files: Path, tmp_path: Path
) -> None:
    content = os.urandom(50_000)
    path = files / "mal"
    path.write_bytes(content)
    path.chmod(0o751)
    before = seen(path)
    assert take(Rig(tmp_path / "rig", kernel=kernel), path).outcome is Outcome.COMPLETED
    armed = FakeFailpoints()
    armed.arm(place)
    with pytest.raises(Crash):
        Rig(tmp_path / "rig", armed=armed, kernel=kernel).restore()
    assert "object" in copies(files, tmp_path / "rig" / "vault", content), place
    if path.exists():
        assert path.read_bytes() == content, f"{place}: half a file under the final name"
    answer = Rig(tmp_path / "rig", kernel=kernel).restore()
    assert answer.outcome is Outcome.COMPLETED, answer
    assert (seen(path).content, seen(path).mode, seen(path).mtime_ns) == (before.content, before.mode, before.mtime_ns)
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
