"""Bodies that the native face takes, and their plain values for the room.

An unknown field is a fault: a misspelt ``dry_run`` must never become a real kill.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from workers.gateway.refusals import Invalid
from workers.gateway.requests import Named, NamedContainer, NamedFile, NamedNetwork, NamedProcess, Submission

Int64 = Annotated[StrictInt, Field(ge=-(1 << 63), lt=1 << 63)]
Text = Annotated[StrictStr, Field(max_length=1024)]
Name = Annotated[StrictStr, Field(max_length=256)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProcessBody(_Body):
    """A process."""

    pid: Annotated[StrictInt, Field(ge=1, lt=1 << 31)]
    """Its process id on the host."""
    start_time_ns: Int64 | Annotated[StrictStr, Field(pattern=r"^(-1|\d{1,19})$")] | None = None
    """When it started, nanoseconds since the epoch, as a number or as text; -1 or nothing where it is not known: the
    node then takes the process that has this id when it takes the command in, and says so."""


class ContainerBody(_Body):
    """A container."""

    id: Name
    """12 to 64 hex digits of its id."""


class FileBody(_Body):
    """A file."""

    path: Annotated[StrictStr, Field(max_length=4096)]
    """Its absolute path."""
    container_id: Name = ""
    """The container whose path it is; empty for the host's."""


class NetworkBody(_Body):
    """A network."""

    container_id: Name = ""
    """The container whose network it is; empty for the host's."""


class TargetBody(_Body):
    """What to act on: exactly one of these."""

    process: ProcessBody | None = None
    """A process."""
    container: ContainerBody | None = None
    """A container."""
    file: FileBody | None = None
    """A file."""
    network: NetworkBody | None = None
    """The network of the host or of a container."""

    def named(self) -> Named:
        """The one that is there.

        Raises:
            Invalid: none, or more than one.
        """
        given = [each for each in (self.process, self.container, self.file, self.network) if each is not None]
        if len(given) != 1:
            raise Invalid("target names exactly one of process, container, file and network", field="target")
        match given[0]:
            case ProcessBody(pid=pid, start_time_ns=start):
                known = None if start is None or int(start) == -1 else int(start)
                return NamedProcess(pid, known)
            case ContainerBody(id=container_id):
                return NamedContainer(container_id)
            case FileBody(path=path, container_id=container_id):
                return NamedFile(path, container_id)
            case NetworkBody(container_id=container_id):
                return NamedNetwork(container_id)


class ExecutionBody(_Body):
    """A request for an action."""

    action: Name
    """The action's name in the catalogue."""
    host: Name = ""
    """Node id or host name; may be left out where event_id is given."""
    target: TargetBody | None = None
    """What to act on; or give event_id."""
    event_id: Name = ""
    """Act on what this event names; instead of target."""
    parameters: dict[Name, StrictBool | Int64 | Text] = Field(default={}, max_length=32)
    """The action's parameters; whole numbers may come as text."""
    reason: Text = ""
    """Why, in your words; kept in the history."""
    dry_run: StrictBool = False
    """Check everything and touch nothing."""
    ttl_s: Annotated[StrictInt, Field(ge=0, le=86_400)] = 0
    """Seconds after which it may no longer start; 0 takes the action's own."""
    undo_after_s: Annotated[StrictInt, Field(ge=0, le=31_536_000)] = 0
    """Seconds after which a success is undone by itself; 0 never."""
    caller_id: Annotated[StrictStr, Field(max_length=128)] = ""
    """Your own correlation id, echoed."""

    def submission(self) -> Submission:
        """The plain value.

        Raises:
            Invalid: the target is none or ambiguous.
        """
        return Submission(
            action=self.action,
            host=self.host,
            target=self.target.named() if self.target is not None else None,
            event_id=self.event_id,
            parameters=dict(self.parameters),
            reason=self.reason,
            dry_run=self.dry_run,
            ttl_s=self.ttl_s,
            undo_after_s=self.undo_after_s,
            caller_id=self.caller_id,
        )


class UndoBody(_Body):
    """Why an execution is undone."""

    reason: Text = ""
    """In your words."""


class CancelBody(_Body):
    """Why an execution is cancelled."""

    reason: Text = ""
    """In your words."""
    force: StrictBool = False
    """Cancel even where that leaves something half done; the outcome says so."""
