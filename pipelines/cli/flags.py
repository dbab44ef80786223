"""Flags: typed values from the words of a command line, and the text of `--help`.

argparse splits the words and lays out the help. Types, choices and near names are checked here, so that the error is
one line that names the allowed values.
"""

import argparse
import difflib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from arae_core.settings.checks import require
from arae_core.settings.declaration import declarations
from arae_core.settings.tree import flatten


@dataclass(frozen=True)
class Option:
    """A flag: `Option("run_name", str, "", "Name to continue under.")` is --run-name, `options.run_name`.

    kind: str, int, float, bool, Path, or a tuple of one of them (`tuple[int, ...]`: values separated by commas). A bool
    takes no value, except in a dotted setting (`--vocabulary.lowercase false`).
    values: number of values; with more than one, the result is a list.
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
        """True if the flag takes no value."""
        return self.kind is bool and "." not in self.name

    @property
    def flag(self) -> str:
        """The flag as --help shows it: --batch-size, --critic.learning_rate. Dashes and underscores are equivalent."""
        return "--" + (self.name if "." in self.name else self.name.replace("_", "-"))


def setting_options(tree: Any) -> Iterator[tuple[str, Option]]:
    """Yield (title of its group, Option) for every setting of a tree."""
    values, sections = flatten(tree), {f.name: getattr(tree, f.name) for f in fields(tree)}
    for name, entry in declarations(type(tree)).items():
        part, dot, _ = name.partition(".")
        title = f"{part}: {(sections[part].__doc__ or '').splitlines()[0].rstrip('.')}" if dot else "run"
        yield title, Option(name, entry.type, values[name], entry.help)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message.removeprefix("argument "))


def peek(option: Option, words: Sequence[str]) -> str:
    """Read the value of one option first, because the defaults of the others depend on it."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument(option.flag, default=option.default)
    return str(vars(parser.parse_known_args(words)[0])[option.flag.removeprefix("--")] or "")


def read_flags(
    words: Sequence[str], description: str, groups: Mapping[str, Sequence[Option]]
) -> tuple[dict[str, Any], argparse.Namespace]:
    """Parse the words; return the typed values by name, and the options of the first group with their defaults."""
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
            raise ValueError(f"{option.flag} is required: {option.help}")
    return values, argparse.Namespace(**{option.name: values.get(option.name, option.default) for option in first})


def _canonical(word: str, known: Mapping[str, Option]) -> str:
    """Normalize the dashes and underscores of a flag; return other words as they are."""
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
    """Convert typed text. Raise ValueError "NAME must be an integer, got 'x'"."""
    if isinstance(text, list):
        return [_converted(option, one) for one in text]
    kind = get_args(option.kind)[0] if get_origin(option.kind) is tuple else option.kind
    allowed = _NAMES.get(kind, "text")
    try:
        if kind is not option.kind:
            allowed += ", or several separated by commas"
            return tuple(_one(kind, part.strip()) for part in text.split(",")) if text else ()
        value = _one(kind, text)
    except (ValueError, KeyError):
        raise ValueError(f"{option.name} must be {allowed}, got {text!r}") from None
    require(not option.choices or text in option.choices, option.name, text, "one of " + ", ".join(option.choices))
    return value


def _one(kind: Any, text: str) -> Any:
    return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)


def spelled(value: Any) -> str:
    """Return a value as a user types it."""
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
