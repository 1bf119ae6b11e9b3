"""Named points where a fault test ends the process or raises; nothing at all unless the environment arms them.

Made by wiring out of the environment. Spec: ``name=kill``, ``name=kill:3`` (at the third pass), ``name=raise``,
joined by commas. ``kill`` is what SIGKILL leaves behind: no exception handler, no flush, no exit hook runs.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from threading import Lock
from typing import Final, Literal

from workers.domain.errors import ConfigError, PermanentFailure

VARIABLE: Final = "DOUSE_FAILPOINTS"
KILLED: Final = 137
"""Exit status of a process ended by SIGKILL, as a shell reports it (128 + 9)."""

_SPEC = re.compile(r"(?P<name>[a-z_]+(?:\.[a-z0-9_]+)+)=(?P<effect>kill|raise)(?::(?P<nth>[1-9][0-9]{0,8}))?")

Effect = Literal["kill", "raise"]


class NoFailpoints:
    """Production: passing a failpoint does nothing."""

    def reach(self, name: str) -> None:
        """Nothing."""


class ArmedFailpoints:
    """Acts once, at the nth pass of each armed name, whichever thread passes. Counts per process."""

    def __init__(self, armed: Mapping[str, tuple[Effect, int]]) -> None:
        """``armed`` maps a name to its effect and the pass (from 1) at which it acts."""
        self._armed = armed
        self._passes: Counter[str] = Counter()
        self._lock = Lock()

    def reach(self, name: str) -> None:
        """Pass the failpoint; at its armed pass, end the process or raise ``PermanentFailure`` (``failpoint``)."""
        if name not in self._armed:
            return
        effect, nth = self._armed[name]
        with self._lock:
            self._passes[name] += 1
            passes = self._passes[name]
        if passes != nth:
            return
        if effect == "kill":
            os._exit(KILLED)
        raise PermanentFailure(f"failpoint {name} raised at pass {nth}", code="failpoint")


def failpoints(environment: Mapping[str, str]) -> NoFailpoints | ArmedFailpoints:
    """What ``DOUSE_FAILPOINTS`` arms.

    Raises:
        ConfigError: a spec that cannot be read: a fault test that silently injects no fault proves nothing.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return NoFailpoints()
    armed: dict[str, tuple[Effect, int]] = {}
    for spec in text.split(","):
        found = _SPEC.fullmatch(spec.strip())
        if found is None:
            raise ConfigError(
                f"{VARIABLE}: {spec.strip()!r} is not name=kill, name=kill:N or name=raise (worker.point)"
            )
        effect: Effect = "kill" if found["effect"] == "kill" else "raise"
        armed[found["name"]] = (effect, int(found["nth"] or 1))
    return ArmedFailpoints(armed)
