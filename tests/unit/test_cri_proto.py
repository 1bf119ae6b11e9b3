"""Our own reading of our ``.proto`` files says what the real compiler says of them, and refuses what it cannot read."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from workers.host.containers import cri
from workers.host.containers.cri.proto import describe, messages

ROOM = Path(cri.__file__).parent
FILES = [*sorted(ROOM.glob("*.proto")), Path(__file__).parents[1] / "containerd" / "kubelet.proto"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_read_as_the_compiler_reads_it(path: Path, tmp_path: Path) -> None:
    described = tmp_path / "described"
    assert protoc.main(["protoc", f"-I{path.parent}", f"--descriptor_set_out={described}", path.name]) == 0
    (compiled,) = FileDescriptorSet.FromString(described.read_bytes()).file
    assert describe(path) == compiled
    assert set(messages(path)) == {message.name for message in compiled.message_type}


def test_there_is_something_to_read() -> None:
    assert {path.name for path in FILES} == {"cri.proto", "tasks.proto", "kubelet.proto"}


def test_messages_carry_what_they_were_given() -> None:
    kinds = messages(ROOM / "cri.proto")
    made = kinds["ContainerStatusResponse"](status={"id": "a", "labels": {"b": "c"}}, info={"info": "{}"})
    back = kinds["ContainerStatusResponse"].FromString(made.SerializeToString())
    assert back == made
    assert dict(back.status.labels) == {"b": "c"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('syntax = "proto3";', "no package"),
        ("package a; message B { oneof c = 1; float d = 2 }", "float d"),
        ("package a; enum B { C = D; }", "C = D"),
    ],
)
def test_what_it_cannot_read_it_says(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.proto"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        describe(path)
