# ruff: noqa: PTH101, PTH104, PTH116, PTH119, PTH208 - names here are bytes, and some are no text
"""Quarantine and restore on real files: every field comes back, every odd file gets one clear answer, and a crash
anywhere leaves the original or a verified object."""

from __future__ import annotations

import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.components import require
from tests.fakes.failpoints import Crash, FakeFailpoints
from tests.vault_rig import (
    TAKEN,
    VaultRig,
    content,
    metadata,
    quarantine_job,
    recover,
    restore_job,
    reviewed,
)
from workers.actions.file_quarantine import FileQuarantine, FileUnquarantine
from workers.domain.errors import CommandRejected, PermanentFailure
from workers.domain.outcome import Outcome
from workers.host.files.ports import VaultLimits
from workers.host.files.quarantine.vault import KernelFeatures

MEGABYTE = 1 << 20
KERNELS = [KernelFeatures(), KernelFeatures(openat2=False, tmpfile=False)]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root is not on this machine: owners and flags are root's")


@pytest.fixture(params=KERNELS, ids=["modern", "without openat2 and O_TMPFILE"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> VaultRig:
    return VaultRig(tmp_path / "vault", kernel=request.param)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def _file(home: Path, data: bytes = b"malware" * 1000, name: bytes = b"x") -> bytes:
    path = os.fsencode(home) + b"/" + name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


def _leftovers(home: Path) -> list[str]:
    return [name for name in os.listdir(home) if name.startswith(".douse")]


def _refusal(call: Callable[[], object]) -> str:
    with pytest.raises(CommandRejected) as caught:
        call()
    return caught.value.reason


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_file_goes_into_the_vault_and_comes_back_as_it_was(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    before = metadata(path)
    taken = rig.quarantine(path)
    assert (taken.outcome, taken.effect_holds) == (Outcome.COMPLETED, True)
    assert os.listdir(home) == []
    kept = Path(str(taken.outputs["quarantined_file_path"]))
    assert stat.S_IMODE(kept.stat().st_mode) == 0o400
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert b"malware" not in kept.read_bytes()[:4]
    assert rig.restore().outcome is Outcome.COMPLETED
    assert (content(path), metadata(path)) == (b"malware" * 1000, before)
    assert _leftovers(home) == []


modes = st.integers(0, 0o777) | st.sampled_from([0o4755, 0o2755, 0o1777, 0o6711])
names = st.sampled_from([b"x", b"\xff\xfe", b"n" * 255, b"two\nlines", b"-rf", b" ", "ü".encode()])
attributes = st.dictionaries(st.sampled_from(["user.a", "user.b"]), st.binary(max_size=100), max_size=2)
stretches = st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=5000)), max_size=4)
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 1234),
        (4, 4, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
)
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""cap_net_bind_service, effective and permitted."""


@as_root
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=modes,
    owner=st.tuples(st.integers(0, 70_000), st.integers(0, 70_000)),
    name=names,
    given_attributes=attributes,
    acl=st.booleans(),
    capability=st.booleans(),
    parts=stretches,
    length=st.integers(0, 300_000),
    times=st.tuples(st.integers(1, 1 << 60), st.integers(1, 1 << 60)),
    kernel=st.sampled_from(KERNELS),
)
def test_every_field_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    mode: int,
    owner: tuple[int, int],
    name: bytes,
    given_attributes: dict[str, bytes],
    acl: bool,
    capability: bool,
    parts: list[tuple[int, bytes]],
    length: int,
    times: tuple[int, int],
    kernel: KernelFeatures,
) -> None:
    top = tmp_path_factory.mktemp("round")
    path = _file(top, b"", name)
    descriptor = os.open(path, os.O_RDWR)
    for block, data in parts:
        os.pwrite(descriptor, data, block * 4096)
    os.ftruncate(descriptor, max(length, os.fstat(descriptor).st_size))
    os.fchown(descriptor, *owner)
    os.fchmod(descriptor, mode)
    extra = given_attributes | ({"system.posix_acl_access": ACL} if acl else {})
    for key, value in (extra | ({"security.capability": CAPABILITY} if capability else {})).items():
        os.setxattr(descriptor, key, value)
    os.fsync(descriptor)
    os.close(descriptor)
    os.utime(path, ns=times)
    before, data_before = metadata(path), content(path)
    rig = VaultRig(top / "vault", kernel=kernel)
    assert rig.quarantine(path).outcome is Outcome.COMPLETED
    assert not os.path.lexists(path)
    assert rig.restore().outcome is Outcome.COMPLETED
    assert metadata(path) == before
    assert content(path) == data_before


@as_root
def test_inode_flags_come_back(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    flagged = subprocess.run(["chattr", "+iad", os.fsdecode(path)], check=False)
    require("chattr", "flags to set", present=flagged.returncode == 0)
    try:
        assert _refusal(lambda: rig.quarantine(path)) == "immutable"
        assert rig.quarantine(path, allow_immutable=True).outcome is Outcome.COMPLETED
        assert rig.restore().outcome is Outcome.COMPLETED
        shown = subprocess.run(["lsattr", os.fsdecode(path)], capture_output=True, text=True, check=True).stdout
        assert {"i", "a", "d"} <= set(shown.split()[0])
    finally:
        subprocess.run(["chattr", "-iad", os.fsdecode(path)], check=False)


# --- undo refuses rather than guess -----------------------------------------------------------------------------------


def test_nothing_is_overwritten(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    rig.quarantine(path)
    _file(home, b"another")
    assert _refusal(rig.restore) == "restore_conflict"
    assert content(path) == b"another"


def test_a_directory_that_is_gone_is_not_made_again(rig: VaultRig, home: Path) -> None:
    rig.quarantine(_file(home))
    home.rmdir()
    assert _refusal(rig.restore) == "restore_parent_missing"
    home.mkdir()
    if home.stat().st_ino:  # a new directory, though it has the path
        moved = home.with_name("moved")
        home.rename(moved)
        home.symlink_to(moved)
        assert _refusal(rig.restore) in {"symlink_in_path", "restore_parent_missing"}


@pytest.mark.parametrize("mode", [0o4755, 0o2755])
def test_a_setuid_file_takes_two_people_to_come_back(rig: VaultRig, home: Path, mode: int) -> None:
    path = _file(home)
    os.chmod(path, mode)
    rig.quarantine(path)
    assert _refusal(lambda: rig.restore(approval_class="one")) == "approval_missing"
    assert os.listdir(home) == []


def test_an_edited_manifest_or_object_restores_nothing(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    taken = rig.quarantine(path)
    kept = Path(str(taken.outputs["quarantined_file_path"]))
    kept.chmod(0o600)
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-8] + bytes(8))
    assert rig.restore().code == "file_unquarantine_error_object_damaged"
    assert os.listdir(home) == []
    kept.write_bytes(whole)
    manifest = kept.with_name(kept.name + ".manifest")
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes().replace(b"a", b"b"))
    with pytest.raises(PermanentFailure) as caught:
        rig.restore()
    assert caught.value.reason == "manifest_damaged"
    assert os.listdir(home) == []


# --- one clear answer for every odd file ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory", "symlink", "device"])
def test_only_regular_files_are_taken(rig: VaultRig, home: Path, kind: str) -> None:
    path = home / "odd"
    bound = socket.socket(socket.AF_UNIX)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            bound.bind(str(path))
        case "directory":
            path.mkdir()
        case "symlink":
            path.symlink_to("/etc/passwd")
        case "device":
            require("root", "device nodes")
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    try:
        assert _refusal(lambda: rig.quarantine(bytes(path))) == "not_regular"
        assert os.path.lexists(path)
    finally:
        bound.close()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (b"/proc/version", "protected_target"),
        (b"/etc/passwd", "protected_target"),
        (os.fsencode(sys.executable), None),
        (b"relative", "invalid_target"),
        (b"/tmp/../etc/passwd", "invalid_target"),
        (b"/tmp/" + b"n" * 300, "invalid_target"),
    ],
)
def test_what_must_stay_stays(rig: VaultRig, path: bytes, reason: str | None) -> None:
    if reason is not None:
        assert _refusal(lambda: rig.quarantine(path)) == reason
        return
    with pytest.raises((CommandRejected, PermanentFailure)):
        rig.quarantine(path)


@as_root
def test_a_hard_link_to_a_protected_file_is_protected_whatever_it_is_called(rig: VaultRig, tmp_path: Path) -> None:
    vault_file = tmp_path / "vault" / "kept"
    rig.host()
    rig.quarantine(_file(tmp_path, name=b"first"))  # opens the vault
    vault_file.write_bytes(b"")
    assert _refusal(lambda: rig.quarantine(bytes(vault_file))) == "protected_target"


def test_a_link_in_the_path_is_refused_with_the_real_path(rig: VaultRig, home: Path) -> None:
    _file(home)
    home.with_name("link").symlink_to(home)
    with pytest.raises(CommandRejected, match="home/x") as caught:
        rig.quarantine(bytes(home.with_name("link") / "x"))
    assert caught.value.reason == "symlink_in_path"


def test_hard_links_are_refused_unless_forced_and_then_disarmed(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    os.chmod(path, 0o755)
    os.link(path, home / "other")
    assert _refusal(lambda: rig.quarantine(path)) == "hardlinked"
    assert rig.quarantine(path, force_hardlinked=True).outcome is Outcome.COMPLETED
    assert stat.S_IMODE((home / "other").stat().st_mode) == 0o644
    assert rig.restore().outcome is Outcome.COMPLETED
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


def test_a_sparse_terabyte_is_too_large_and_a_small_sparse_file_stays_sparse(rig: VaultRig, home: Path) -> None:
    path = _file(home, b"")
    os.truncate(path, 1 << 40)
    assert _refusal(lambda: rig.quarantine(path)) == "too_large"
    os.truncate(path, 10 * MEGABYTE)
    assert rig.quarantine(path).outcome is Outcome.COMPLETED
    assert rig.restore().outcome is Outcome.COMPLETED
    found = os.stat(path)
    assert (found.st_size, found.st_blocks) == (10 * MEGABYTE, 0)


def test_an_empty_file_and_a_path_of_4096_bytes_go_and_come_back(rig: VaultRig, home: Path) -> None:
    at = os.open(home, os.O_RDONLY)
    top = os.fsencode(home)
    path = top
    while len(path) < 4096 - 260:
        os.mkdir(b"d" * 200, dir_fd=at)
        below = os.open(b"d" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at, path = below, path + b"/" + b"d" * 200
    name = b"n" * min(255, 4096 - len(path) - 1)
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=at))
    assert rig.quarantine(path + b"/" + name).outcome is Outcome.COMPLETED
    assert os.listdir(at) == []
    assert rig.restore().outcome is Outcome.COMPLETED
    assert os.listdir(at) == [os.fsdecode(name)]
    os.close(at)


@as_root
def test_a_full_disk_and_a_read_only_mount_leave_the_file_where_it_is(tmp_path: Path, home: Path) -> None:
    path = _file(home, os.urandom(MEGABYTE))
    before = metadata(path)
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(small)], check=False)
    require("mount", "a small tmpfs", present=mounted.returncode == 0)
    try:
        small.chmod(0o700)
        rig = VaultRig(small / "vault", limits=VaultLimits(50 * MEGABYTE, 1 << 40, -(1 << 40)))
        ended = rig.quarantine(path)
        assert ended.code == "file_quarantine_error_failed_enospc"
        assert (metadata(path), _leftovers(home)) == (before, [])
        assert not (small / "vault" / f"{TAKEN}.part").exists()
        (small / "f").write_bytes(b"1")
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        assert _refusal(lambda: VaultRig(tmp_path / "v2").quarantine(bytes(small / "f"))) == "refused_readonly"
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_quota_and_a_limit_leave_the_file_where_it_is(tmp_path: Path, home: Path) -> None:
    path = _file(home, os.urandom(MEGABYTE))
    rig = VaultRig(tmp_path / "vault", limits=VaultLimits(50 * MEGABYTE, MEGABYTE // 2, 0))
    with pytest.raises(Exception, match="quota"):
        rig.quarantine(path)
    assert len(content(path)) == MEGABYTE
    small = VaultRig(tmp_path / "v2", limits=VaultLimits(100, MEGABYTE, 0))
    assert _refusal(lambda: small.quarantine(path)) == "too_large"


def test_a_growing_file_ends_taken_or_back_under_its_name(tmp_path: Path, home: Path) -> None:
    path = _file(home, os.urandom(MEGABYTE))
    writer = subprocess.Popen(
        [sys.executable, "-c", "import sys\nf=open(sys.argv[1],'ab',0)\nwhile True: f.write(b'g'*65536)", path]
    )
    try:
        ended = VaultRig(tmp_path / "vault", limits=VaultLimits(8 * MEGABYTE, 1 << 30, 0)).quarantine(path)
    except CommandRejected:
        pass  # it was too large already when it was looked at
    else:
        if ended.outcome is Outcome.COMPLETED:
            assert ended.outputs["content_changed"] is True
            assert int(ended.outputs["open_handles"]) >= 1
        else:
            assert ended.code == "file_quarantine_error_too_large"
            assert os.path.lexists(path)
    finally:
        writer.kill()
        writer.wait()
    assert _leftovers(home) == []


@pytest.mark.parametrize("change", ["content", "touch", "links", "replaced"])
def test_what_a_person_reviewed_must_not_have_changed(rig: VaultRig, home: Path, change: str) -> None:
    path = _file(home)
    seen = reviewed(path)
    match change:
        case "content":
            Path(os.fsdecode(path)).write_bytes(b"M" * 7000)
        case "touch":
            os.utime(path)
        case "links":
            os.link(path, home / "other")
        case "replaced":
            other = _file(home, name=b"y")
            os.rename(other, path)
    expected = {"target_changed", "hardlinked"}
    assert _refusal(lambda: rig.quarantine(path, reviewed=seen)) in expected
    assert os.path.lexists(path)


def test_a_file_that_changes_after_its_claim_is_taken_as_found(rig: VaultRig, home: Path) -> None:
    path = _file(home)
    host, job, action = rig.host(), quarantine_job(path), FileQuarantine()
    claim = action.bind(job, host)
    Path(os.fsdecode(path)).write_bytes(b"changed")
    ended = action.execute(job, claim, host)
    assert (ended.outcome, ended.outputs["content_changed"]) == (Outcome.COMPLETED, True)


# --- a crash anywhere -------------------------------------------------------------------------------------------------


def _assert_held(rig: VaultRig, home: Path, path: bytes, data: bytes) -> None:
    """The original (under its name, or parked), or a verified object; never two contents, never half a file."""
    vault = rig.host().vault
    assert vault is not None
    parked = [home / name / "file" for name in _leftovers(home) if (home / name / "file").exists()]
    copies = [found for found in [Path(os.fsdecode(path)), *parked] if found.exists()]
    assert all(content(bytes(found)) == data for found in copies)
    manifest = vault.manifest(TAKEN)
    if not copies:
        assert manifest is not None
        held = vault.hold_for_quarantine(manifest, None)
        assert held is not None
        held.verify(manifest, deadline_ns=1 << 62)
        held.close()


@pytest.mark.parametrize("point", FileQuarantine.failpoints)
def test_a_crash_after_any_step_of_a_quarantine_is_finished_by_the_next_process(
    rig: VaultRig, home: Path, point: str
) -> None:
    data = os.urandom(100_000)
    path = _file(home, data)
    before = metadata(path)
    action, job = FileQuarantine(), quarantine_job(path)
    claim = action.bind(job, rig.host())
    assert isinstance(rig.failpoints, FakeFailpoints)
    rig.failpoints.arm(point)
    with pytest.raises(Crash):
        action.execute(job, claim, rig.host())
    _assert_held(rig, home, path, data)
    assert recover(action, job, claim, rig.host()).outcome is Outcome.COMPLETED
    assert os.listdir(home) == []
    assert rig.restore().outcome is Outcome.COMPLETED
    assert (content(path), metadata(path)) == (data, before)


@pytest.mark.parametrize("point", FileUnquarantine.failpoints)
def test_a_crash_after_any_step_of_a_restore_is_finished_by_the_next_process(
    rig: VaultRig, home: Path, point: str
) -> None:
    data = os.urandom(100_000)
    path = _file(home, data)
    before = metadata(path)
    rig.quarantine(path)
    action, job = FileUnquarantine(), restore_job()
    claim = action.bind(job, rig.host())
    assert isinstance(rig.failpoints, FakeFailpoints)
    rig.failpoints.arm(point)
    with pytest.raises(Crash):
        action.execute(job, claim, rig.host())
    _assert_held(rig, home, path, data)
    assert recover(action, job, claim, rig.host()).outcome is Outcome.COMPLETED
    assert (content(path), metadata(path)) == (data, before)
    assert os.listdir(home) == [os.path.basename(os.fsdecode(path))]


@pytest.mark.parametrize("point", [p for p in FileQuarantine.failpoints if p[-1] in "123"])
def test_a_failure_before_anything_is_stored_gives_the_file_its_name_back(
    rig: VaultRig, home: Path, point: str
) -> None:
    path = _file(home)
    before = metadata(path)
    assert isinstance(rig.failpoints, FakeFailpoints)
    rig.failpoints.arm(point, error=PermanentFailure("the disk fails", code="io_error"))
    ended = rig.quarantine(path)
    assert ended.code == "file_quarantine_error_io_error"
    assert (metadata(path), _leftovers(home)) == (before, [])
