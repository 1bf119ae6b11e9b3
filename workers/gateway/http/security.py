"""Who is calling, how often, and with which rights: FastAPI's bearer scheme and what is built on it.

``BearerBackend`` runs in Starlette's ``AuthenticationMiddleware``, before routing and before the body: FastAPI reads
and parses a body before it solves a route's dependencies, and solves none for an unknown path. Routes declare
``Caller`` or a dependency on a right, which puts the scheme into the OpenAPI document and refuses a caller that the
backend let through without a token. Never blocks: it runs on the event-loop thread.
"""

from typing import Annotated, Final

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser
from starlette.requests import HTTPConnection, Request

from workers.gateway.http import connections
from workers.gateway.http.services import PREFIX, Services
from workers.gateway.permissions import Access, permit_any, readable
from workers.gateway.principals import Principal, RateLimit, Tokens
from workers.gateway.refusals import Unauthorized

HEALTH: Final = f"{PREFIX}/health"
OPENAPI: Final = "/openapi.json"

_OPEN: Final = frozenset({HEALTH, OPENAPI})
"""Readable without a token; a wrong token is refused here too."""

BEARER: Final = HTTPBearer(scheme_name="bearer", description="The token that `douse up` prints.", auto_error=False)


class Authenticated(BaseUser):
    """The principal of a request, as Starlette carries it."""

    def __init__(self, principal: Principal) -> None:
        """``principal`` is the owner of the token."""
        self.principal = principal

    @property
    def is_authenticated(self) -> bool:
        return True


class BearerBackend(AuthenticationBackend):
    """Checks the bearer token of every request, then the limit of requests a minute."""

    def __init__(self, tokens: Tokens, limit: RateLimit) -> None:
        """Both are used by this thread only."""
        self._tokens = tokens
        self._limit = limit

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """The caller; None if the path is open and no token was sent.

        Raises:
            Unauthorized: no token, two, or one that is not known here.
            TooMany: the caller's limit is reached.
        """
        given = conn.headers.getlist("authorization")
        if not given and conn.scope["method"] in ("GET", "HEAD") and conn.scope["path"] in _OPEN:
            return None
        credentials = await BEARER(Request(conn.scope)) if len(given) == 1 else None
        if credentials is None:
            raise Unauthorized("no bearer token: send the header `Authorization: Bearer <token>` once")
        principal = self._tokens.principal(credentials.credentials)
        _report_valid_token(conn)
        self._limit.take(principal)
        return AuthCredentials(sorted(principal.rights)), Authenticated(principal)


def _report_valid_token(conn: HTTPConnection) -> None:
    """The connection is kept from now on, however many others are opened."""
    slot = conn.scope.get("state", {}).get(connections.STATE)
    if isinstance(slot, connections.ConnectionSlot):
        slot.authenticated()


Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]


async def known_caller(request: Request, credentials: Credentials) -> Principal | None:
    """The caller, or None if the path is open and no token was sent."""
    user = request.scope.get("user")
    return user.principal if isinstance(user, Authenticated) else None


KnownCaller = Annotated[Principal | None, Security(known_caller)]


async def caller(known: KnownCaller) -> Principal:
    """The caller.

    Raises:
        Unauthorized: a route that needs a token was reached without one.
    """
    if known is None:
        raise Unauthorized("this needs a bearer token")
    return known


Caller = Annotated[Principal, Security(caller)]


async def readable_actions(person: Caller, services: Services) -> tuple[str, ...] | None:
    """The actions whose executions the caller may read; None for all.

    Raises:
        Forbidden: none at all.
    """
    return readable(person, services.intake.catalogue)


ReadableActions = Annotated[tuple[str, ...] | None, Security(readable_actions)]


async def caller_with_exec(person: Caller) -> Principal:
    """A caller who may request some action.

    Raises:
        Forbidden: the caller may request none.
    """
    permit_any(person, Access.EXEC)
    return person


CallerWithExec = Annotated[Principal, Security(caller_with_exec)]
