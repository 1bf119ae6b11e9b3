"""Why a request was not served. Made by ``answers``."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Why a request was not served; the same shape on every status."""

    type: str
    """A stable code."""
    message: str
    """One line for people: what was wrong, and what to do."""
    details: tuple[Mapping[str, str], ...] = ()
    """What was wrong with which field."""
