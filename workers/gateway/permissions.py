"""What a caller may do: one check, which both faces go through. Deny by default.

Called by ``intake`` and by the routes that list. A right is the class of an action and what is done with it
(``containment-response-actions.exec``). Which class an execution has is looked up in the catalogue, never taken from
the caller; an execution of an action that this version does not know needs the rights of every class.
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
"""What an admin has."""

ADMIN: Final = Principal("admin", EVERY_RIGHT)
"""The one principal of the admin token, until roles come."""


def may(person: Principal, permission: Permission, access: Access) -> bool:
    """Whether this right was given."""
    return right(permission, access) in person.rights


def permit(person: Principal, action: AnyAction | None, access: Access) -> None:
    """Nothing, where it is allowed; ``action`` is None where the catalogue does not have it.

    Raises:
        Forbidden: it is not.
    """
    needed = (action.permission,) if action is not None else tuple(Permission)
    for permission in needed:
        if not may(person, permission, access):
            raise Forbidden(f"this needs the right {right(permission, access)}, which {person.name} does not have")


def permit_any(person: Principal, access: Access) -> None:
    """Nothing, where the caller has this right to some class.

    Raises:
        Forbidden: to none.
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
