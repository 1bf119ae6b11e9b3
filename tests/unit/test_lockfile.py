"""One process a data directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.domain.errors import ConfigError
from workers.system.lock_file import LockFile


def test_a_second_holder_is_refused_with_the_firsts_pid(tmp_path: Path) -> None:
    held = LockFile(tmp_path / "data" / "lock")
    with pytest.raises(ConfigError, match=f"in use by another worker \\(process {os.getpid()}\\)"):
        LockFile(tmp_path / "data" / "lock")
    held.release()


def test_it_is_free_again_once_released_and_releasing_twice_is_harmless(tmp_path: Path) -> None:
    first = LockFile(tmp_path / "lock")
    first.release()
    first.release()
    LockFile(tmp_path / "lock").release()


def test_a_place_that_cannot_be_locked_is_a_configuration_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used as a lock"):
        LockFile(tmp_path / "file" / "lock")
