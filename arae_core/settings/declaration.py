"""The declaration of a setting: everything that is known of it stands at its field.

    learning_rate: float = setting(1e-3, above(0.0), mutable=True)
    \"\"\"Step size of the optimizer.\"\"\"

Flags, help, checks, the settings reference, search spaces, population based training, checkpoints and the warnings
about settings without effect all read these declarations; none of them keeps a list of its own.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

from arae_core.settings.bounds import Bound

ANYTHING = Bound(lambda value: True, "")


@dataclass(frozen=True)
class Condition:
    """When a setting has an effect.

    obstacle: function of the settings and of the setting's own name; "" where it has an effect, else the reason why it
    has none, which starts with the name of another setting: "code.noise is 0".
    words: function of the setting's name; the condition as the settings reference states it.
    """

    obstacle: Callable[[Any, str], str]
    words: Callable[[str], str]


ALWAYS = Condition(lambda settings, name: "", lambda name: "")


@dataclass(frozen=True)
class Declaration:
    """Facts about one setting, or, as the metadata of a section, about all settings of that section."""

    bound: Bound = ANYTHING
    """Values that are allowed, checked when the settings are made."""
    when: Condition = ALWAYS
    """Under which other settings it has an effect."""
    structural: bool = False
    """True if it decides which tensors a model has: what continues a checkpoint must keep it."""
    mutable: bool = False
    """True if it may change in mid-training: population based training mutates it."""
    fixed: str = ""
    """Why a search cannot choose it: "the data" or "the length of a run" that it decides; "" if a search can."""
    prepares: bool = False
    """True if it decides how the data is prepared, and so is part of the prepared data's fingerprint."""
    operational: bool = False
    """True if it decides how a run is executed and not what comes out: a run may be resumed with another value."""


def setting(default: Any, bound: Bound = ANYTHING, **facts: Any) -> Any:
    """Declare a field of a section; `facts` are the other fields of `Declaration`."""
    return field(default=default, metadata={"declaration": Declaration(bound, **facts)})


def section(cls: Any, **facts: Any) -> Any:
    """Declare a section, a dataclass of settings; `facts` hold for all of its settings."""
    return field(default_factory=cls, metadata={"declaration": Declaration(**facts)})


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of every dataclass of settings: checks each field against its declaration.

    Raise ValueError "NAME must be ALLOWED, got VALUE", with the dotted name.
    """

    prefix: ClassVar[str] = ""
    """Where the section stands in the tree, with a dot: "critic."; "" for the root."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if not is_dataclass(value := getattr(self, f.name)):
                declared(f).bound.check(self.prefix + f.name, value)


@dataclass(frozen=True)
class Entry:
    """One setting of a tree: its dotted name, type, default, help, facts, and the facts of the sections around it."""

    name: str
    type: Any
    default: Any
    help: str
    declaration: Declaration
    sections: tuple[Declaration, ...] = ()

    def has(self, fact: str) -> Any:
        """The value of a fact, its own or else that of a section around it."""
        return next((value for d in (self.declaration, *self.sections) if (value := getattr(d, fact))), "")

    def obstacle(self, settings: Any) -> str:
        """Why it has no effect in a tree of settings, or "".

        A setting is never without effect because of its own value.
        """
        reasons = (d.when.obstacle(settings, self.name) for d in (*self.sections, self.declaration))
        return next((reason for reason in reasons if reason and not reason.startswith(f"{self.name} is ")), "")


def declared(f: Any) -> Declaration:
    """The declaration of a dataclass field; a field without one allows anything."""
    found: Declaration = f.metadata.get("declaration", Declaration())
    return found


def declarations(cls: type) -> dict[str, Entry]:
    """Dotted name -> entry, for every setting of a class of settings, in order."""
    if cls not in _DECLARATIONS:
        _DECLARATIONS[cls] = {entry.name: entry for entry in _entries(cls, "", ())}
    return _DECLARATIONS[cls]


_DECLARATIONS: dict[type, dict[str, Entry]] = {}


def _entries(cls: type, prefix: str, around: tuple[Declaration, ...]) -> Iterator[Entry]:
    types, texts = get_type_hints(cls), _docstrings(cls)
    for f in fields(cls):
        if is_dataclass(types[f.name]):
            inner: Any = types[f.name]
            yield from _entries(inner, f"{prefix}{f.name}.", (*around, declared(f)))
        else:
            default = None if f.default is MISSING else f.default
            yield Entry(prefix + f.name, types[f.name], default, texts.get(f.name, ""), declared(f), around)


def without_effect(settings: Any) -> dict[str, str]:
    """Dotted name -> the reason, for every setting that the others make irrelevant."""
    found = ((name, entry.obstacle(settings)) for name, entry in declarations(type(settings)).items())
    return {name: reason for name, reason in found if reason}


def named(cls: type, fact: str) -> list[str]:
    """The names of the settings for which a fact of their declaration, or of their section's, holds."""
    return [name for name, entry in declarations(cls).items() if entry.has(fact)]


def _docstrings(cls: type) -> dict[str, str]:
    """Field -> the string under it, which Python does not keep: read from the source of the class and of its bases."""
    found = {}
    for base in reversed(cls.__mro__[:-1]):
        for node in _parsed(sys.modules[base.__module__].__file__ or ""):
            if isinstance(node, ast.ClassDef) and node.name == base.__name__:
                for before, after in zip(node.body, node.body[1:], strict=False):
                    if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                        match after:
                            case ast.Expr(value=ast.Constant(value=str(text))):
                                found[before.target.id] = " ".join(text.split())
    return found


@cache
def _parsed(file: str) -> list[ast.stmt]:
    return ast.parse(Path(file).read_text(encoding="utf-8")).body
