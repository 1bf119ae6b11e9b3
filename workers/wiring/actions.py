"""What follows from the catalogue of actions: a node's settings, what rules may name, what the doctor checks.

Called by the composition root and the command line. Every function takes another catalogue too, so that a test can add
an action to it. Imports of actions stand inside, so that a command that needs none never pays for them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from workers.domain.rules.rule import Actions, ActionShape

if TYPE_CHECKING:
    from workers.actions.base import AnyAction
    from workers.settings import ActionSettings, Features, NodeSettings

Catalogue: TypeAlias = "Sequence[AnyAction] | None"
"""None is the catalogue of this version."""


def node_settings(catalogue: Catalogue = None) -> "type[NodeSettings]":
    """The settings of a node worker, one key for each action among them."""
    from workers.settings import node_settings_with

    return node_settings_with(_sections(catalogue))


def node_features(catalogue: Catalogue = None) -> "type[Features]":
    """``features`` of those settings."""
    from workers.settings import features_with

    return features_with(_sections(catalogue))


def action_shapes(catalogue: Catalogue = None) -> Actions:
    """The catalogue as rules see it."""
    return {
        action.name: ActionShape(
            target=action.target,
            parse=action.parse,
            reversible=action.reversible_by is not None,
            undo_only=action.undo_only,
        )
        for action in _actions(catalogue)
    }


def privileges_and_mounts(catalogue: Catalogue = None) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """What each action needs to act on other users' objects: capabilities without ``CAP_``, and host paths."""
    return {action.name: (action.privileges, action.mounts) for action in _actions(catalogue)}


def _sections(catalogue: Catalogue) -> "Mapping[str, type[ActionSettings]]":
    return {action.name: action.settings for action in _actions(catalogue)}


def _actions(catalogue: Catalogue) -> "Sequence[AnyAction]":
    from workers.actions import CATALOGUE

    return CATALOGUE if catalogue is None else catalogue
