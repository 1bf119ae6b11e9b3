"""What every route uses, and the waits that hold no thread.

Made by ``app``; routes declare ``Services`` and ``Trace``. Synchronous work runs on the framework's worker threads;
only waiting is async.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from workers.actions.base import Lane
from workers.domain.history.execution import Execution
from workers.domain.ids import ExecutionId
from workers.domain.log.record import Headers
from workers.domain.node_state import Progress
from workers.domain.trust.keyset import Keyset
from workers.gateway.intake import GatewayIntake
from workers.store.history.ports import HistoryStore
from workers.system.ports import Clock

T = TypeVar("T")

PREFIX: Final = "/api/v1"
"""Of the native API."""

COMPATIBLE: Final = "/secure/response-actions/v1alpha1"
"""Of the compatible API."""

FOLD_WAIT_S: Final = 2.0
"""How long an answer waits until history has the request."""

_WRITERS: Final = 64
"""Requests that wait for the log at once; more queue up."""

_FIRST_PAUSE_S: Final = 0.004
_LONGEST_PAUSE_S: Final = 0.064

Signer = Callable[[bytes], str]
"""The key id inside a signed envelope; empty if the bytes are not an envelope."""


def _writers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WRITERS, "gateway-write")


@dataclass(frozen=True, slots=True)
class GatewayServices:
    """The services of one gateway."""

    intake: GatewayIntake
    history: HistoryStore
    clock: Clock
    signer: Signer
    keyset: Callable[[], Keyset]
    fold_wait_s: float = FOLD_WAIT_S
    writers: ThreadPoolExecutor = field(default_factory=_writers)

    def write(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run what writes to the log and waits for it, on threads of its own: while the log is unavailable, all writers
        wait, and all readers must still be answered."""
        return asyncio.get_running_loop().run_in_executor(self.writers, work)

    def progress(self, execution: Execution) -> Progress | None:
        """How far the copy or upload of one that gathers was at its node's newest heartbeat; None where none is under
        way."""
        action = self.intake.catalogue.get(execution.action)
        if ended(execution) or not execution.node_id or action is None or action.lane is not Lane.GATHERING:
            return None
        under_way = (each for node in self.history.nodes(execution.node_id) for each in node.state.gathering)
        return next((each for each in under_way if each.execution_id == execution.execution_id), None)

    async def folded(self, execution_id: ExecutionId) -> Execution | None:
        """The execution once history has its request; None after ``fold_wait_s``."""
        known = await self.until(_has_request, execution_id, self.fold_wait_s)
        return known if known is not None and _has_request(known) else None

    async def until(
        self, done: Callable[[Execution], bool], execution_id: ExecutionId, wait_s: float
    ) -> Execution | None:
        """The execution once ``done`` is true of it; what history has of it after ``wait_s``. Holds no thread
        meanwhile."""
        now = asyncio.get_running_loop().time
        until, pause_s = now() + wait_s, _FIRST_PAUSE_S
        while True:
            known = await run_in_threadpool(self.history.execution, execution_id)
            if (known is not None and done(known)) or now() >= until:
                return known
            await asyncio.sleep(pause_s)
            pause_s = min(1.25 * pause_s, _LONGEST_PAUSE_S)


async def services_of(request: Request) -> GatewayServices:
    """The services of the application that answers this request."""
    services: GatewayServices = request.app.state.services
    return services


async def trace_of(request: Request) -> Headers:
    """The caller's own trace, if one was sent."""
    given = request.headers.get("traceparent", "")
    return (("traceparent", given.encode("ascii", "replace")),) if given else ()


Services = Annotated[GatewayServices, Depends(services_of)]
Trace = Annotated[Headers, Depends(trace_of)]


def ended(execution: Execution) -> bool:
    """Whether nothing may follow: UNKNOWN is still being settled."""
    return execution.outcome is not None and execution.outcome.is_final


def _has_request(execution: Execution) -> bool:
    return execution.request is not None
