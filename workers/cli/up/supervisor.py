"""Starts each worker as a process, restarts a worker that ends, and stops all.

Called by ``douse up`` and ``douse demo``; handles processes and files only. Beside the demo's test process, this is the
only module of Douse that starts a program, and it starts nothing but ``python -m workers``.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from workers.cli.exits import Exit
from workers.cli.up.data_dir import DataDir
from workers.domain.errors import ConfigError
from workers.system.parent import SUPERVISOR

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A worker that lived this long has recovered: its next restart is quick again."""
STOP_S = 15.0
"""Longer than a node's own drain (10 s), so that it is killed only when it hangs."""


@dataclass(slots=True)
class Child:
    """One worker's process, and when it may be started again."""

    role: str
    process: "subprocess.Popen[bytes] | None" = None
    started_s: float = 0.0
    pause_s: float = FIRST_PAUSE_S
    not_before_s: float = 0.0
    restarts: int = 0
    refusal: str = ""
    """Why it refuses its settings, as last reported."""


@dataclass(slots=True)
class Supervisor:
    """The workers of one data directory."""

    data: DataDir
    roles: Sequence[str]
    children: list[Child] = field(default_factory=list)
    ready: bool = False
    """Everything worked once: from then on no worker's settings end the others."""

    def start(self) -> None:
        """Start every worker, in order."""
        self.children = [Child(role) for role in self.roles]
        for child in self.children:
            self._spawn(child)

    def step(self) -> list[str]:
        """Restart workers that ended; one line for each.

        Raises:
            ConfigError: a worker refuses its settings before everything was ready.
        """
        lines = []
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (status := child.process.poll()) is not None:
                lines += self._ended(child, status, now)
            if child.process is None and now >= child.not_before_s:
                child.restarts += 1
                self._spawn(child)
        return lines

    def stop(self) -> None:
        """SIGTERM to all, last started first; SIGKILL to what still runs after ``STOP_S``."""
        running = [child.process for child in reversed(self.children) if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self.children:
            self.data.pid(child.role).unlink(missing_ok=True)

    def _spawn(self, child: Child) -> None:
        command = [sys.executable, "-m", "workers", child.role, "--config", str(self.data.config(child.role))]
        with self.data.log(child.role).open("ab") as log:
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {SUPERVISOR: str(os.getpid())},
                start_new_session=True,
            )
        child.started_s = time.monotonic()
        self.data.pid(child.role).write_text(f"{child.process.pid}\n")

    def _ended(self, child: Child, status: int, now: float) -> list[str]:
        child.process = None
        refusal = self._last_line(child.role) if status == Exit.USAGE else ""
        if refusal and not self.ready:
            raise ConfigError(f"the {child.role} cannot start: {refusal}")
        if now - child.started_s >= STEADY_S:
            child.pause_s = FIRST_PAUSE_S
        child.not_before_s = now + child.pause_s
        how = f"ended by signal {-status}" if status < 0 else f"ended with code {status}"
        if refusal:
            how = f"cannot start ({refusal})"
        elif status == Exit.BUSY:
            how = f"cannot start yet ({self._last_line(child.role)})"
        line = f"{child.role} {how}; restarting in {child.pause_s:g} s (log: {self.data.log(child.role)})"
        child.pause_s = min(LONGEST_PAUSE_S, child.pause_s * 2)
        known, child.refusal = child.refusal, refusal
        return [] if refusal and refusal == known else [line]

    def _last_line(self, role: str) -> str:
        text = self.data.log(role).read_text(encoding="utf-8", errors="backslashreplace")
        lines = [line for line in text.splitlines() if line.strip()]
        return lines[-1].removeprefix("douse: ") if lines else "it printed nothing"
