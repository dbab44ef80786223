"""What is asked of a task, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.perplexity import Say
from pipelines.experiment.settings import BUILT_IN

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Asked:
    """What was asked of all tasks alike.

    samples: sentences that each model writes for the perplexities. references, outputs: files to score transfer with,
    see `read_references`. contrast: of transfer, by default each model's own. reconstructed: whether the perplexities
    are of reconstructions, too.
    """

    split: str = "validation"
    samples: int = 100_000
    seed: int = 0
    storage: Path = Path("runs")
    tracking_uri: str = ""
    references: Path | None = None
    outputs: Path | None = None
    contrast: float | None = None
    reconstructed: bool = False
    say: Say = print


@dataclass(frozen=True)
class Outcome:
    """A task's rows ("model" and figures by name), its picture if it has one, and what else is to be read."""

    rows: list[dict[str, Any]]
    figure: "Figure | None" = None
    text: list[str] = field(default_factory=list)


def of_real_text(subjects: Sequence[Subject]) -> bool:
    """Whether any is of real text: beside the built-in grammar, published figures say nothing."""
    return any(subject.experiment.data.source not in BUILT_IN for subject in subjects)
