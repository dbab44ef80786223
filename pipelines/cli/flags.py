"""Flags: how words on a command line become values, and how `--help` shows them.

argparse splits the words and lays out the help; types, choices and near names are checked here, because a mistake must
cost one line that says what is allowed.
"""

import argparse
import ast
import difflib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from arae_core.settings.checks import require


@dataclass(frozen=True)
class Option:
    """A flag: `Option("run_name", str, "", "Name to continue under.")` is --run-name, `options.run_name`.

    `kind` is str, int, float, bool, Path or a tuple of one of them (`tuple[int, ...]`: values with commas between).
    A bool is typed without a value, but with one where it is a part's setting (`--vocabulary.lowercase false`).
    With `values` > 1 the flag takes that many, and gives a list.
    """

    name: str
    kind: Any = str
    default: Any = None
    help: str = ""
    choices: tuple[str, ...] = ()
    values: int = 1
    required: bool = False

    @property
    def switch(self) -> bool:
        """Whether the flag alone says it all."""
        return self.kind is bool and "." not in self.name

    @property
    def flag(self) -> str:
        """Dotted names as they are, run-wide ones with dashes; the other spelling is understood as well."""
        return "--" + (self.name if "." in self.name else self.name.replace("_", "-"))


def setting_options(tree: Any, prefix: str = "", group: str = "run") -> Iterator[tuple[str, Option]]:
    """(title of its group, Option) for every leaf of a tree of dataclasses."""
    types, helps = get_type_hints(type(tree)), _docstrings(type(tree))
    for f in fields(tree):
        value = getattr(tree, f.name)
        if is_dataclass(value):
            title = f"{f.name}: {(value.__doc__ or '').splitlines()[0].rstrip('.')}"
            yield from setting_options(value, f"{prefix}{f.name}.", title)
        else:
            yield group, Option(prefix + f.name, types[f.name], value, helps[f.name])


def _docstrings(cls: type) -> dict[str, str]:
    """Field -> the string under it, which Python does not keep: read from the source of the class and its bases."""
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


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


def peek(option: Option, words: Sequence[str]) -> str:
    """The value of one option, before the others can be read: their defaults depend on it."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument(option.flag, default=option.default)
    return str(vars(parser.parse_known_args(words)[0])[option.flag.removeprefix("--")] or "")


def read_flags(
    words: Sequence[str], description: str, groups: Mapping[str, Sequence[Option]]
) -> tuple[dict[str, Any], argparse.Namespace]:
    """Every value typed, by name, and the options of the first group with their defaults."""
    known = {option.name: option for group in groups.values() for option in group}
    assert len(known) == sum(map(len, groups.values())), "an option has the name of a setting"
    width = min(140, shutil.get_terminal_size((120, 24)).columns)
    parser = _Parser(
        usage="%(prog)s [--FLAG VALUE ...]",
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=40, width=width),
    )
    for title, group in groups.items():
        section = parser.add_argument_group(title)
        for option in group:
            text = _help(option).replace("%", "%%")
            if option.switch:
                section.add_argument(option.flag, dest=option.name, action="store_const", const="true", help=text)
            else:
                count = option.values if option.values > 1 else None
                section.add_argument(option.flag, dest=option.name, nargs=count, metavar=_metavar(option), help=text)
    typed, unknown = parser.parse_known_args([_canonical(word, known) for word in words])
    if unknown:
        raise ValueError(_unknown(unknown[0], known))
    values = {name: _converted(known[name], text) for name, text in vars(typed).items()}
    first = next(iter(groups.values()))
    for option in first:
        if option.required and option.name not in values:
            raise ValueError(f"{option.flag} is needed: {option.help}")
    return values, argparse.Namespace(**{option.name: values.get(option.name, option.default) for option in first})


def _canonical(word: str, known: Mapping[str, Option]) -> str:
    """The word itself, or the flag as it is declared for one spelled with other dashes and underscores."""
    flag, equals, value = word.partition("=")
    name = flag.removeprefix("--").replace("-", "_")
    return known[name].flag + equals + value if flag.startswith("--") and name in known else word


def _unknown(word: str, known: Mapping[str, Option]) -> str:
    if not word.startswith("-"):
        return f"unexpected argument {word!r}"
    flag = word.partition("=")[0]
    name = flag.lstrip("-").replace("-", "_")
    near = [full for full in known if full.endswith("." + name)] or difflib.get_close_matches(name, known, n=1)
    hint = " or ".join(known[full].flag for full in near)
    return f"unknown flag {flag}; " + (f"did you mean {hint}?" if near else "--help lists them all")


_NAMES = {int: "an integer", float: "a number", bool: "true or false"}


def _converted(option: Option, text: str | list[str]) -> Any:
    """The value of what was typed. Raises ValueError "NAME must be an integer, got 'x'"."""
    if isinstance(text, list):
        return [_converted(option, one) for one in text]
    kind = get_args(option.kind)[0] if get_origin(option.kind) is tuple else option.kind
    allowed = _NAMES.get(kind, "text")
    try:
        if kind is not option.kind:
            allowed += ", or several with commas between"
            return tuple(_one(kind, part.strip()) for part in text.split(",")) if text else ()
        value = _one(kind, text)
    except (ValueError, KeyError):
        raise ValueError(f"{option.name} must be {allowed}, got {text!r}") from None
    require(not option.choices or text in option.choices, option.name, text, "one of " + ", ".join(option.choices))
    return value


def _one(kind: Any, text: str) -> Any:
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)


def spelled(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(spelled, value))
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metavar(option: Option) -> str | tuple[str, ...]:
    if option.choices:
        return "|".join(option.choices)
    tuples = get_origin(option.kind) is tuple
    kind = get_args(option.kind)[0] if tuples else option.kind
    word = {int: "INT", float: "NUMBER", bool: "true|false", Path: "PATH"}.get(kind, "TEXT")
    word = f"{word},..." if tuples else word
    return (word,) * option.values if option.values > 1 else word


def _help(option: Option) -> str:
    shown = "" if option.default in (None, "") or option.switch else f" (default: {spelled(option.default)})"
    return option.help + shown
