"""What a caller may do: one check for both APIs. Deny by default.

Called by ``intake`` and by the dependencies in ``http.security``. A right is the class of an action and what is done
with it (``containment-response-actions.exec``). The class of an execution is looked up in the catalogue, never taken
from the caller; an execution of an action that this version does not know needs the rights of every class.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from workers.actions.base import AnyAction, Permission
from workers.gateway.principals import Principal
from workers.gateway.refusals import Forbidden


class Access(StrEnum):
    """What is done with an action or an execution of it."""

    READ = "read"
    EXEC = "exec"


def right(permission: Permission, access: Access) -> str:
    """The right's name."""
    return f"{permission}.{access}"


EVERY_RIGHT: Final = frozenset(right(permission, access) for permission in Permission for access in Access)
"""The rights of an admin."""

ADMIN: Final = Principal("admin", EVERY_RIGHT)
"""The owner of the admin token."""


def may(person: Principal, permission: Permission, access: Access) -> bool:
    """Whether this right was given."""
    return right(permission, access) in person.rights


def permit(person: Principal, action: AnyAction | None, access: Access) -> None:
    """Check that it is allowed; ``action`` is None if the catalogue does not have it.

    Raises:
        Forbidden: it is not allowed.
    """
    needed = (action.permission,) if action is not None else tuple(Permission)
    for permission in needed:
        if not may(person, permission, access):
            raise Forbidden(f"this needs the right {right(permission, access)}, which {person.name} does not have")


def permit_any(person: Principal, access: Access) -> None:
    """Check that the caller has this right for at least one class.

    Raises:
        Forbidden: for none.
    """
    if not any(may(person, permission, access) for permission in Permission):
        wanted = " or ".join(right(permission, access) for permission in Permission)
        raise Forbidden(f"this needs the right {wanted}, and {person.name} has neither")


def readable(person: Principal, catalogue: Mapping[str, AnyAction]) -> tuple[str, ...] | None:
    """The actions whose executions the caller may read; None for all there are.

    Raises:
        Forbidden: none at all.
    """
    permit_any(person, Access.READ)
    if all(may(person, permission, Access.READ) for permission in Permission):
        return None
    return tuple(name for name, action in catalogue.items() if may(person, action.permission, Access.READ))
