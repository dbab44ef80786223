"""Arguments of a command that trains."""

import argparse
from dataclasses import dataclass, field
from typing import Any

from pipelines.experiment.settings import Experiment


@dataclass(frozen=True)
class Arguments:
    """A parsed command line."""

    experiment: Experiment
    """Its preset with all settings applied."""
    given: dict[str, Any]
    """Settings on the command line."""
    options: argparse.Namespace
    """The command's own options."""
    typed: frozenset[str] = frozenset()
    """Names of the options on the command line; the others have their defaults."""
    words: tuple[str, ...] = field(default=(), compare=False)
    """The command line itself."""
