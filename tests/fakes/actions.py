"""A small catalogue as rules see it: one action of each kind of target, with the parameters a rule may give."""

from __future__ import annotations

from dataclasses import dataclass

from workers.domain.errors import CommandRejected
from workers.domain.outcome import Values
from workers.domain.rules.rule import Actions, ActionShape
from workers.domain.target import ContainerTarget, FileTarget, NetworkTarget, ProcessTarget


@dataclass(frozen=True, slots=True)
class Generation:
    """Parameters of the process action."""

    ancestor: int = 0


def _generation(values: Values) -> Generation:
    ancestor = values.get("ancestor", 0)
    if set(values) - {"ancestor"} or not isinstance(ancestor, int) or not 0 <= ancestor <= 32:
        raise CommandRejected(f"kill_process takes ancestor from 0 to 32, not {dict(values)}")
    return Generation(ancestor)


def _nothing(values: Values) -> object:
    if values:
        raise CommandRejected(f"takes no parameters, not {sorted(values)}")
    return None


FAKE_ACTIONS: Actions = {
    "kill_process": ActionShape(ProcessTarget, _generation),
    "stop_container": ActionShape(ContainerTarget, _nothing, reversible=True),
    "start_container": ActionShape(ContainerTarget, _nothing, undo_only=True),
    "file_quarantine": ActionShape(FileTarget, _nothing, reversible=True),
    "isolate_network": ActionShape(NetworkTarget, _nothing, reversible=True),
}
