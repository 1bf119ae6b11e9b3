"""How a container that only the kernel knows is named in a claim, so that the same run is known again. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from workers.domain.targets.container import ContainerRef

SCHEME: Final = "kernel:"
_NAME: Final = re.compile(rf"{SCHEME}(system|user)/(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class Name:
    """What stands in the place of a runtime's socket."""

    systems: bool
    """Whether only root could have made its cgroup."""
    digits: int
    """How many of the id were asked for: what a user calls by these is one container."""
    inode: int
    """Of the cgroup that stands for the run."""
    pid: int
    """Its oldest process at the claim."""

    def __str__(self) -> str:
        """As it travels."""
        return f"{SCHEME}{'system' if self.systems else 'user'}/{self.digits}/{self.inode}/{self.pid}"


def named(ref: ContainerRef) -> Name:
    """Back again; one that is none of ours names the system's container of that id, and no run."""
    found = _NAME.fullmatch(ref.runtime)
    if found is None:
        return Name(systems=True, digits=len(ref.id), inode=0, pid=0)
    return Name(found[1] == "system", int(found[2]), int(found[3]), int(found[4]))
