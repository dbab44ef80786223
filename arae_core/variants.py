"""Entries of the rooms `objectives`, `priors`, `codes` and `codecs`. Imports no torch: settings are read without it."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Variant:
    """A variant of an objective, a prior, a code or a codec.

    target: its class, as "package.module:Name". The module is imported when the variant is first used.
    reads: the settings and sections, by dotted name, that have an effect only under the variants that list them.
    forbids: settings with a value that the variant does not allow, and the reason.
    data: the kinds of data, text or image, that a codec is for.
    """

    target: str
    reads: tuple[str, ...] = ()
    forbids: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    data: tuple[str, ...] = ()

    def load(self) -> Any:
        """Import the class."""
        module, _, name = self.target.partition(":")
        return getattr(importlib.import_module(module), name)


Room = dict[str, Variant]
