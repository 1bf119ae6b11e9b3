"""``douse download``: an acquired file, log or snapshot, whole and verified, or not at all.

Called by the frame; calls the gateway. What arrives is written beside its final name, hashed on the way, and gets the
name only when its digest is the one that the node signed; until then, and after any failure, nothing has that name. It
may be malware: only its owner may read it, and nobody may run it.
"""

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from workers.cli.client import Client, DataOption, connected
from workers.cli.exits import Exit, Failure

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def register(app: typer.Typer) -> None:
    """Add ``douse download``."""
    app.command("download", rich_help_panel="Actions")(download)


def download(
    execution_id: Annotated[str, typer.Argument(help="The execution that acquired it.", metavar="ID")],
    file: Annotated[
        Path | None, typer.Option("--file", "-o", help="Where to put it; else here, named by the execution.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what has that name.")] = False,
    data: DataOption = None,
) -> None:
    """Download an acquired file, log or snapshot, and verify its SHA-256. It may be malware."""
    with connected(data) as client:
        wanted = _sealed(client, execution_id)
        path = (file if file is not None else Path(Path(execution_id).name)).expanduser()
        if path.is_dir():
            path /= Path(execution_id).name
        if not force and os.path.lexists(path):
            raise Failure(f"{path} exists; give another -o, or --force to replace it", Exit.USAGE)
        with _beside(path) as (part, name):
            size, sha256 = _received(client, execution_id, part)
            if sha256 != wanted:
                raise Failure(
                    f"what arrived is not what was acquired (SHA-256 {sha256}, not {wanted}); nothing was kept",
                    Exit.FAILED,
                )
            part.flush()
            os.fsync(part.fileno())
            _name(name, path, force=force)
    typer.echo(f"{path}: {size} bytes, SHA-256 {sha256} verified")


def _sealed(client: Client, execution_id: str) -> str:
    """The digest in the node's signed result, as history has it."""
    known = client.get("executions", execution_id)
    sha256 = str(known["outputs"].get("sha256", ""))
    if not _DIGEST.fullmatch(sha256) or "object_key" not in known["outputs"]:
        state = known["outcome"] or known["stage"]
        raise Failure(f"{execution_id} acquired no file: it is a {known['action']}, {state}", Exit.NOT_FOUND)
    return sha256


def _received(client: Client, execution_id: str, part: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with client.stream("executions", execution_id, "acquired-file") as answer:
        for chunk in answer.iter_raw():
            digest.update(chunk)
            size += len(chunk)
            part.write(chunk)
    return size, digest.hexdigest()


@contextmanager
def _beside(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside ``path``, for its owner alone; gone afterwards under that name, whatever happens."""
    name = path.parent / f".{path.name[:200]}.{secrets.token_hex(4)}.part"
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as part:
                yield part, name
        finally:
            with contextlib.suppress(FileNotFoundError):
                name.unlink()
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror}", Exit.FAILED) from None


def _name(part: Path, path: Path, *, force: bool) -> None:
    """Give what arrived its name, in one step."""
    if force:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise Failure(f"{path} exists by now; give another -o, or --force to replace it", Exit.USAGE) from None
    except PermissionError:  # a filesystem without hard links
        part.rename(path)
