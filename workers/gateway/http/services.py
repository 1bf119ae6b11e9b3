"""What every route has at hand, and the two ways in which a route reaches it.

Made by ``app``; used by ``native``. Synchronous work runs on the framework's worker threads; only waiting is async.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from workers.domain.history.execution import Execution
from workers.domain.ids import ExecutionId
from workers.domain.log.record import Headers
from workers.gateway.intake import Intake
from workers.gateway.principals import Principal
from workers.gateway.refusals import Unauthorized
from workers.gateway.show_execution import Signer
from workers.store.history.ports import HistoryStore
from workers.system.ports import Clock

T = TypeVar("T")

PREFIX: Final = "/api/v1"
"""Of the native face."""

COMPATIBLE: Final = "/secure/response-actions/v1alpha1"
"""Of the compatible face."""

FOLD_WAIT_S: Final = 2.0
"""How long an answer waits for history to know of what was asked (DESIGN section 3)."""

_WRITERS: Final = 64
"""Requests that wait for the log at once; more queue up."""

_FIRST_PAUSE_S: Final = 0.004
_LONGEST_PAUSE_S: Final = 0.064


def _writers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WRITERS, "gateway-write")


@dataclass(frozen=True, slots=True)
class Services:
    """The gateway's room, as routes see it."""

    intake: Intake
    history: HistoryStore
    clock: Clock
    signer: Signer
    fold_wait_s: float = FOLD_WAIT_S
    writers: ThreadPoolExecutor = field(default_factory=_writers)

    def writing(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run what writes to the log and waits for it, on threads of its own: while the log is away, all who write
        wait, and all who read must still be answered."""
        return asyncio.get_running_loop().run_in_executor(self.writers, work)

    async def folded(self, execution_id: ExecutionId) -> Execution | None:
        """The execution once history knows what was asked; None after ``fold_wait_s``."""
        known = await self.until(_asked, execution_id, self.fold_wait_s)
        return known if known is not None and _asked(known) else None

    async def until(
        self, done: Callable[[Execution], bool], execution_id: ExecutionId, wait_s: float
    ) -> Execution | None:
        """The execution once ``done`` says so; what there is of it after ``wait_s``. Holds no thread meanwhile."""
        now = asyncio.get_running_loop().time
        until, pause_s = now() + wait_s, _FIRST_PAUSE_S
        while True:
            known = await run_in_threadpool(self.history.execution, execution_id)
            if (known is not None and done(known)) or now() >= until:
                return known
            await asyncio.sleep(pause_s)
            pause_s = min(1.25 * pause_s, _LONGEST_PAUSE_S)


def ended(execution: Execution) -> bool:
    """Whether nothing may follow: UNKNOWN is still being settled."""
    return execution.outcome is not None and execution.outcome.is_final


def _asked(execution: Execution) -> bool:
    return execution.request is not None


def caller(request: Request) -> Principal:
    """Whose request it is; the edge has checked.

    Raises:
        Unauthorized: a route that needs a token was reached without one.
    """
    principal = request.scope.get("state", {}).get("principal")
    if not isinstance(principal, Principal):
        raise Unauthorized("this needs a bearer token")
    return principal


def trace_of(request: Request) -> Headers:
    """The caller's own trace, where he sent one."""
    given = request.headers.get("traceparent", "")
    return (("traceparent", given.encode("ascii", "replace")),) if given else ()
