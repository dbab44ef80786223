"""Options and result of a task."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.corpus_language_model import Log
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.experiment.settings import BUILT_IN

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class TaskOptions:
    """Options that all tasks share.

    split: validation, or test for final results. samples: sentences that each model generates for perplexity.
    references, outputs: files to score transfer with, see `read_references`. contrast: of transfer; None: each model's
    own. reconstructed: also report the perplexity of reconstructions. log: prints a line of progress.
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
    log: Log = print


@dataclass(frozen=True)
class TaskResult:
    """Rows of a table ("model" and metrics by name), a figure if there is one, and lines of text."""

    rows: list[dict[str, Any]]
    figure: "Figure | None" = None
    text: list[str] = field(default_factory=list)


def any_real_text(models: Sequence[EvaluatedModel]) -> bool:
    """True if any model was trained on real text; published results are not comparable with the built-in grammar."""
    return any(model.experiment.data.source not in BUILT_IN for model in models)
