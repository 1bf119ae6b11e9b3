"""YAML files: plain data in and out, and one clear line for everything that is wrong with one."""

import subprocess
import sys
from pathlib import Path

import pytest

from workers.domain.errors import ConfigError
from workers.system import yaml_files


def test_what_was_written_is_read_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "context.yaml"
    yaml_files.write(path, {"url": "http://127.0.0.1:8080", "names": ["ä", "b"]})
    assert yaml_files.read_mapping(path) == {"url": "http://127.0.0.1:8080", "names": ["ä", "b"]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["context.yaml"]


def test_an_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert yaml_files.read_mapping(tmp_path / "empty.yaml") == {}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a: [1, 2", "not valid YAML at line"),
        (b"- a\n- b\n", "must be a mapping (key: value)"),
        (b"a: 1\n---\nb: 2\n", "not valid YAML at line"),
        (b"a: \xff\xfe", "not UTF-8 at byte 3"),
        (b"a: !!python/object/apply:os.system ['true']", "a tag (!...) is not allowed"),
        (b"a: \x00", "not valid YAML"),
        (b"[" * 5000, "nested too deeply"),
        (b"on: COMPLETED\n'on': FAILED\n", "line 2: the key 'on' is given twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        yaml_files.read_mapping(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_a_directory_are_reported_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        yaml_files.read_mapping(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        yaml_files.read_mapping(tmp_path)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
MERGED = "a0: &a0 {k: x}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}]}}\n" for level in range(1, 12)
)


@pytest.mark.parametrize("text", [BOMB, MERGED, "a: &a [*a]", "a: &a {b: *a}"])
def test_a_document_that_stands_for_billions_of_values_is_one_line_at_once(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^bomb.yaml: more than 1000000 values once its aliases are followed"):
        yaml_files.read_text(text, name="bomb.yaml")


def test_aliases_as_people_write_them_are_followed() -> None:
    text = "base: &base {action: kill_process}\nrules: [{<<: *base, name: a}, {<<: *base, name: b}, *base]\n"
    assert yaml_files.read_text(text, name="a.yaml")["rules"] == [
        {"action": "kill_process", "name": "a"},
        {"action": "kill_process", "name": "b"},
        {"action": "kill_process"},
    ]


@pytest.mark.parametrize("command", [["rules", "check"], ["node", "--config"], ["gateway", "--config"]])
def test_a_bomb_in_rules_or_settings_ends_the_command_with_one_line(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "bomb.yaml").write_text(BOMB)
    ended = subprocess.run(
        [sys.executable, "-m", "workers", *command, str(tmp_path / "bomb.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "more than 1000000 values" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mode: observe\nmode: enforce\n", "line 2: the key 'mode' is given twice"),
        ("rules:\n- name: a\n  name: b\n", "line 3: the key 'name' is given twice"),
        ("rules: [{name: a}]\nother: 1\nrules: []\n", "line 3: the key 'rules' is given twice"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        yaml_files.read_text(text, name="some.yaml")


def test_one_key_in_two_mappings_an_alias_and_a_merge_are_no_repetition() -> None:
    text = "a: &x {name: 1}\nb: {name: 2}\nc: *x\nd: {<<: *x, name: 3}\n"
    assert yaml_files.read_text(text, name="some.yaml")["d"] == {"name": 3}


def test_a_file_that_nobody_writes_by_hand_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("# long\n" * (yaml_files.LONGEST // 7 + 1))
    with pytest.raises(ConfigError, match=r"large.yaml: larger than 8388608 bytes"):
        yaml_files.read_mapping(path)
