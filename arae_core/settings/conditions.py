"""Conditions under which a setting has an effect, and values that come from the rooms, for declarations."""

from operator import attrgetter
from typing import Any

from arae_core.settings.bounds import Bound
from arae_core.settings.declaration import Condition
from arae_core.variants import Room


def value_of(settings: Any, name: str) -> Any:
    """The value of a setting by its dotted name."""
    return attrgetter(name)(settings)


def shown(value: Any) -> str:
    """A value as reasons show it: 0 for 0.0, "empty" for an empty text."""
    return f"{value:g}" if isinstance(value, float) else str(value) or "empty"


def equals(name: str, *values: Any) -> Condition:
    """Hold where another setting has one of these values."""

    def obstacle(settings: Any, _: str) -> str:
        value = value_of(settings, name)
        return "" if value in values else f"{name} is {shown(value)}"

    return Condition(obstacle, lambda _: f"{name} is {' or '.join(map(shown, values))}")


def differs(name: str, value: Any) -> Condition:
    """Hold where another setting has any other value."""

    def obstacle(settings: Any, _: str) -> str:
        found = value_of(settings, name)
        return f"{name} is {shown(found)}" if found == value else ""

    return Condition(obstacle, lambda _: f"{name} is not {shown(value)}")


def sibling(name: str, *values: Any) -> Condition:
    """Hold where the setting `name` of the same section has one of these values."""

    def obstacle(settings: Any, own: str) -> str:
        return equals(own.rpartition(".")[0] + "." + name, *values).obstacle(settings, own)

    return Condition(obstacle, lambda own: equals(own.rpartition(".")[0] + "." + name, *values).words(own))


def all_of(*conditions: Condition) -> Condition:
    """Hold where all of the conditions do."""

    def obstacle(settings: Any, name: str) -> str:
        return next((why for each in conditions if (why := each.obstacle(settings, name))), "")

    return Condition(obstacle, lambda name: " and ".join(each.words(name) for each in conditions))


def any_of(*conditions: Condition) -> Condition:
    """Hold where one of the conditions does."""

    def obstacle(settings: Any, name: str) -> str:
        reasons = [each.obstacle(settings, name) for each in conditions]
        return "" if "" in reasons else reasons[0]

    return Condition(obstacle, lambda name: " or ".join(each.words(name) for each in conditions))


def names_of(room: Room, *more: str) -> Bound:
    """Allow `more` and the names in a room, those that are added later too."""
    return Bound(lambda value: value in (*more, *room), lambda: "one of " + ", ".join((*more, *room)))


def reads(room: Room, choice: str, what: str = "") -> Condition:
    """Hold where the variant chosen by the setting `choice` lists `what`, by default the setting itself."""

    def obstacle(settings: Any, name: str) -> str:
        chosen, because = settings.chosen(choice)
        return "" if (what or name) in room[chosen].reads else because

    def words(name: str) -> str:
        return f"{choice} is " + " or ".join(key for key, variant in room.items() if (what or name) in variant.reads)

    return Condition(obstacle, words)
