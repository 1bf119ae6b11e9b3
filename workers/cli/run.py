"""``douse run``, ``undo`` and ``cancel``: request something, and wait for its outcome with ``--wait``.

Calls the gateway. The exit code of ``--wait`` is the class of the outcome.
"""

import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, Final, TypeAlias

import typer

from workers.cli.arguments import OnceCommand, checked_reason
from workers.cli.client import Client, ContextOption, DataOption, acting, stamped
from workers.cli.confirm import YesOption, confirm_elsewhere
from workers.cli.exits import Exit, Failure
from workers.cli.output import Output, OutputOption, print_document, print_rows, progress_text
from workers.domain.ids import RANDOM_BYTES, uuid7
from workers.domain.outcome import NEVER_SEEN

_SPAN: Final = re.compile(r"(\d{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_COLUMNS: Final = ("id", "action", "stage", "outcome", "code", "message")
SUCCESS: Final = frozenset({"COMPLETED", "NO_ACTION", "DRY_RUN"})
_LONG_POLL_S: Final = 10.0
_SHOWN_EVERY_S: Final = 2.0
"""On a terminal, where the progress is shown meanwhile."""

_RETRY_S: Final = 0.2

_TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "pid": ("process", "pid"),
    "start_time_ns": ("process", "start_time_ns"),
    "container": ("container", "id"),
    "path": ("file", "path"),
    "container_id": ("file", "container_id"),
    "network": ("network", "container_id"),
}
"""Keys of ``KEY=VALUE`` that name the target: kind and field in the API. All others are the action's parameters."""

ReasonOption: TypeAlias = Annotated[str, typer.Option("--reason", help="Why it is requested; kept in the history.")]
WaitOption: TypeAlias = Annotated[bool, typer.Option("--wait", help="Wait for the outcome, which sets the exit code.")]
TimeoutOption: TypeAlias = Annotated[float, typer.Option("--timeout", help="Seconds to wait with --wait.", min=0)]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, undo, cancel):
        app.command(command.__name__, cls=OnceCommand, rich_help_panel="Actions")(command)


def run(
    action: Annotated[str, typer.Argument(help="The action; `douse actions` lists all.")],
    reason: ReasonOption,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            help="The target (pid, start_time_ns; container; path, container_id; network=host or network=CONTAINER), "
            "and the action's parameters.",
            metavar="KEY=VALUE…",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Node id or host name; not needed with --event.")] = "",
    event: Annotated[str, typer.Option("--event", help="Act on the target of this event.", metavar="ID")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and change nothing.")] = False,
    undo_after: Annotated[str, typer.Option("--for", help="Undo it after this time: 90s, 30m, 8h, 2d.")] = "",
    ttl: Annotated[str, typer.Option("--ttl", help="Do not start it after this time: 90s, 5m.")] = "",
    key: Annotated[
        str, typer.Option("--key", help="Idempotency key: repeating a key does not repeat the action.")
    ] = "",
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    data: DataOption = None,
    named: ContextOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Request an action on a host."""
    target, parameters = _target_and_parameters(pairs or [])
    body: dict[str, Any] = {
        "action": action,
        "parameters": parameters,
        "reason": checked_reason(reason),
        "dry_run": dry_run,
    }
    body |= {"host": host} if host else {}
    body |= {"event_id": event} if event else {}
    body |= {"target": target} if target else {}
    body |= {"undo_after_s": _seconds(undo_after, "--for")} if undo_after else {}
    body |= {"ttl_s": _seconds(ttl, "--ttl")} if ttl else {}
    with acting(data, named) as client:
        confirm_elsewhere(client.context, f"run {action} on {host or 'the host of the event'}", yes=yes or dry_run)
        execution = client.post("executions", json=body, headers={"Idempotency-Key": key or _new_key()})
        _finish(client, execution, output, wait_s=timeout if wait else 0.0)


def undo(
    execution_id: Annotated[str, typer.Argument(help="The execution to undo.", metavar="ID")],
    reason: ReasonOption | None = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    data: DataOption = None,
    named: ContextOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Undo an execution; the undo is a new execution."""
    with acting(data, named) as client:
        confirm_elsewhere(client.context, f"undo {execution_id}", yes=yes)
        headers = {"Idempotency-Key": _new_key()}
        execution = client.delete("executions", execution_id, json={"reason": checked_reason(reason)}, headers=headers)
        _finish(client, execution, output, wait_s=timeout if wait else 0.0)


def cancel(
    execution_id: Annotated[str, typer.Argument(help="The execution to cancel.", metavar="ID")],
    reason: ReasonOption | None = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 120.0,
    data: DataOption = None,
    named: ContextOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel an execution before its command is signed; after that, it runs or expires on its node."""
    with acting(data, named) as client:
        confirm_elsewhere(client.context, f"cancel {execution_id}", yes=yes)
        execution = client.post("executions", execution_id, "cancel", json={"reason": checked_reason(reason)})
        _finish(client, execution, output, wait_s=timeout if wait else 0.0, success=frozenset({"CANCELED"}))


def _new_key() -> str:
    """A key of this command, so that a request whose answer was lost can be sent again. The execution id takes its time
    from it."""
    return uuid7(time.time_ns(), secrets.token_bytes(RANDOM_BYTES))


def _finish(
    client: Client,
    execution: Mapping[str, Any],
    output: Output,
    *,
    wait_s: float,
    success: frozenset[str] = SUCCESS,
) -> None:
    """Wait for the outcome if ``wait_s``, print the execution, and end with the exit code of the outcome."""
    if wait_s:
        execution = followed(client, execution, wait_s)
    if output is Output.TABLE:
        print_rows([{**execution, "outcome": execution["outcome"] or ""}], output, columns=_COLUMNS)
        typer.echo(f"context: {client.context.label}")
    else:
        print_document(stamped(client, execution), output)
    if not wait_s:
        return
    if not _ended(execution):
        raise Failure(
            f"not ended after {wait_s:g} s{_so_far(execution)}; `douse show {execution['id']}` shows its progress",
            Exit.FAILED,
        )
    if execution["code"].endswith(f"_error_{NEVER_SEEN}"):
        raise typer.Exit(Exit.NOT_FOUND)
    if execution["outcome"] not in success:
        raise typer.Exit(Exit.REFUSED if execution["outcome"] == "REJECTED" else Exit.FAILED)


def followed(client: Client, requested: Mapping[str, Any], wait_s: float) -> Mapping[str, Any]:
    """The execution once it has ended, or as it is after ``wait_s``.

    It was accepted: if history does not have it, the projector has not folded it yet.
    """
    until, latest, path = time.monotonic() + wait_s, requested, ("executions", str(requested["id"]))
    with _progress(f"waiting for {requested['id']}") as spinner:
        poll_s = _LONG_POLL_S if spinner is None else _SHOWN_EVERY_S
        while True:
            left = until - time.monotonic()
            try:
                latest = client.get(*path, wait_s=min(max(left, 0.0), poll_s))
                if spinner is not None:
                    spinner.update(waiting_text(latest))
            except Failure as failure:
                if failure.exit_code is not Exit.NOT_FOUND:
                    raise
                time.sleep(_RETRY_S)
            if _ended(latest) or left <= 0:
                return latest


def _so_far(execution: Mapping[str, Any]) -> str:
    progress = execution.get("progress")
    return f" ({progress_text(progress)})" if progress else ""


def waiting_text(execution: Mapping[str, Any]) -> str:
    """What a terminal shows meanwhile."""
    progress = execution.get("progress")
    return f"waiting for {execution['id']}" + (f": {progress_text(progress)}" if progress else "")


def _progress(text: str) -> Any:
    """A spinner on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def _ended(execution: Mapping[str, Any]) -> bool:
    return execution["outcome"] not in (None, "UNKNOWN")


def _target_and_parameters(pairs: Sequence[str]) -> tuple[dict[str, dict[str, str | int]], dict[str, str]]:
    """The target and the action's parameters."""
    target: dict[str, dict[str, str | int]] = {}
    parameters: dict[str, str] = {}
    given: set[str] = set()
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Failure(f"{pair!r} is not KEY=VALUE", Exit.USAGE)
        if name in given:
            raise Failure(f"{name} is given more than once", Exit.USAGE)
        given.add(name)
        if name not in _TARGETS:
            parameters[name] = value
            continue
        kind, field = _TARGETS[name]
        target.setdefault(kind, {})[field] = _pid(value) if field == "pid" else value
        if name == "network" and value == "host":
            target[kind][field] = ""
    return target, parameters


def _pid(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 12):
        raise Failure(f"pid={value} is not a process id", Exit.USAGE)
    return int(value)


def _seconds(text: str, option: str) -> int:
    span = _SPAN.fullmatch(text)
    if span is None:
        raise Failure(f"{option} is a time such as 90s, 30m, 8h or 2d, not {text!r}", Exit.USAGE)
    return int(span[1]) * _UNITS[span[2]]
