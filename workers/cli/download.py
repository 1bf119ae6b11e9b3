"""``douse download``: an acquired file, log or snapshot, whole and verified, or not at all.

Calls the gateway. The content is written to a temporary file beside the final name and hashed on the way; it gets the
name only if its digest is the one that the node signed. After a failure, no file has that name. It may be malware: only
its owner may read it, and it is not executable.
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

from workers.cli.client import Client, ContextOption, DataOption, connected
from workers.cli.exits import Exit, Failure

_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def register(app: typer.Typer) -> None:
    """Add ``douse download``."""
    app.command("download", rich_help_panel="Actions")(download)


def download(
    execution_id: Annotated[str, typer.Argument(help="The execution that acquired it.", metavar="ID")],
    file: Annotated[
        Path | None,
        typer.Option("--file", "-o", help="The file to write. Default: the execution id, in this directory."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    data: DataOption = None,
    named: ContextOption = None,
) -> None:
    """Download an acquired file, log or snapshot, and verify its SHA-256. It may be malware."""
    with connected(data, named) as client:
        wanted = _signed_digest(client, execution_id)
        path = (file if file is not None else Path(Path(execution_id).name)).expanduser()
        if path.is_dir():
            path /= Path(execution_id).name
        if not force and os.path.lexists(path):
            raise Failure(f"{path} exists; choose another -o, or replace it with --force", Exit.USAGE)
        with _temporary_file(path) as (part, name):
            size, sha256 = _download(client, execution_id, part)
            if sha256 != wanted:
                raise Failure(
                    f"the downloaded content is not what was acquired (SHA-256 {sha256}, not {wanted}); "
                    "nothing was kept",
                    Exit.FAILED,
                )
            part.flush()
            os.fsync(part.fileno())
            _publish(name, path, force=force)
    typer.echo(f"{path}: {size} bytes, SHA-256 {sha256} verified")


def _signed_digest(client: Client, execution_id: str) -> str:
    """The digest in the node's signed result, as history has it."""
    known = client.get("executions", execution_id)
    sha256 = str(known["outputs"].get("sha256", ""))
    if not _DIGEST.fullmatch(sha256) or "object_key" not in known["outputs"]:
        state = known["outcome"] or known["stage"]
        raise Failure(f"{execution_id} acquired no file: it is a {known['action']}, {state}", Exit.NOT_FOUND)
    return sha256


def _download(client: Client, execution_id: str, part: BinaryIO) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with client.stream("executions", execution_id, "acquired-file") as answer:
        for chunk in answer.iter_raw():
            digest.update(chunk)
            size += len(chunk)
            part.write(chunk)
    return size, digest.hexdigest()


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new temporary file beside ``path``, readable by its owner only; always removed afterwards."""
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


def _publish(part: Path, path: Path, *, force: bool) -> None:
    """Give the downloaded file its name, atomically."""
    if force:
        part.replace(path)
        return
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise Failure(f"{path} exists meanwhile; choose another -o, or replace it with --force", Exit.USAGE) from None
    except PermissionError:  # a filesystem without hard links
        part.rename(path)
