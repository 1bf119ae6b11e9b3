"""The processes of this host: held by pidfd, described by /proc, signalled through the descriptor alone.

The port ``Processes``. Named by ``bootstrap`` only; called by actions through ``Host``.
"""

from workers.adapters.processes.system import SystemProcesses

__all__ = ["SystemProcesses"]
