"""Containers as the kernel alone knows them: cgroups that are named by an id, and the processes in them, held by pidfd.

Made by wiring, asked where no runtime's socket serves an id: its daemon is unavailable, it belongs to a user, or it has
no pause. Kills and freezes; it knows no name, no label, no policy, no stop signal. Must never act on a process that is
not in a cgroup of that id, nor trust a user's cgroup where the system itself has one of that id.
"""

from workers.host.containers.kernel.containers import KernelContainers
from workers.host.containers.kernel.run_name import SCHEME

__all__ = ["SCHEME", "KernelContainers"]
