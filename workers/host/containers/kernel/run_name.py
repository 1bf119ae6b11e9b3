"""How a container that only the kernel knows is named in a claim, so that the same run is known again. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from workers.domain.targets.container import ContainerRef

SCHEME: Final = "kernel:"
_NAME: Final = re.compile(rf"{SCHEME}(system|user)/(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class RunName:
    """What a claim has instead of a runtime's socket."""

    by_system: bool
    """Whether only root could have created its cgroup."""
    digits: int
    """How many digits of the id were asked for: of a user's own cgroups, all that begin so are one container."""
    inode: int
    """Of the cgroup that stands for the run."""
    pid: int
    """Its oldest process at the claim."""

    def __str__(self) -> str:
        """As a claim has it."""
        return f"{SCHEME}{'system' if self.by_system else 'user'}/{self.digits}/{self.inode}/{self.pid}"


def run_name(ref: ContainerRef) -> RunName:
    """The reverse; any other text names the system's container of that id, and no run."""
    found = _NAME.fullmatch(ref.runtime)
    if found is None:
        return RunName(by_system=True, digits=len(ref.id), inode=0, pid=0)
    return RunName(found[1] == "system", int(found[2]), int(found[3]), int(found[4]))
