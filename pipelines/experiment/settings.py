"""The settings of a run: the core's, the data, and how it is executed. Imports neither Ray nor torch.

An `Experiment` is a `Settings` of the core with more fields, so that the core takes it as it is and a setting has one
dotted name everywhere: `critic.steps`, `data.source`, `workers`.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from arae_core.settings import HeadSettings, Settings
from arae_core.settings.bounds import Bound, at_least, between, one_of
from arae_core.settings.checks import one_of as check_one_of
from arae_core.settings.checks import require
from arae_core.settings.conditions import differs, equals
from arae_core.settings.declaration import Condition, Section, named, section, setting, without_effect
from arae_core.settings.sections import DRAWS_SAMPLES, TEXT
from arae_core.settings.tree import with_settings
from arae_core.settings.upgrade import upgraded

BUILT_IN = {"grammar": "text", "digits": "image"}
"""Sources that need no file and no network -> their kind of data."""
MOST = 10_000_000
"""Most sentences that are drawn, from the grammar or in an evaluation: they are held in memory, 100 bytes each."""
GRAMMAR_ATTRIBUTES = ("tense", "number", "sentiment")


def _needs_columns(settings: Any, _: str) -> str:
    return f"data.source is {settings.data.source}" if settings.data.source in BUILT_IN else ""


@dataclass(frozen=True, kw_only=True)
class DataSettings(Section):
    """The source of the examples, and the choice among them."""

    prefix: ClassVar[str] = "data."
    source: str = setting("grammar", Bound(bool, "grammar, digits, a folder, a file or a name on the hub"))
    """grammar or digits (built in), a folder with train, validation and test files, one file, or a name on the hub."""
    columns: tuple[str, ...] = setting(
        ("text",),
        Bound(
            lambda names: bool(names) and all(names) and len(set(names)) == len(names),
            "one or more different column names",
        ),
        prepares=True,
        when=Condition(_needs_columns, lambda _: "data.source is not built in"),
    )
    """Columns that hold the examples. Each value of several columns is an example of its own."""
    label: str = setting("", prepares=True)
    """Column with the attribute of each example, a class label or a word; of grammar: tense, number or sentiment.
    Empty: no attribute, Algorithm 1; else Algorithm 2 (text only)."""
    classes: tuple[str, ...] = setting(
        (),
        Bound(lambda names: len(set(names)) == len(names) != 1, "two or more different names, or empty"),
        prepares=True,
        when=differs("data.label", ""),
    )
    """Values of the attribute to use, two or more; empty: all. Examples with other values are left out and counted."""
    distinct: bool = setting(True, prepares=True, when=TEXT)
    """Use each text once, and keep texts of validation and test out of training."""
    shortest: int = setting(1, at_least(1), prepares=True, when=TEXT)
    """Smallest number of tokens in a sentence. Shorter ones are left out and counted."""
    limit: int = setting(0, at_least(0), prepares=True)
    """Training examples to use, always the same random choice. 0: all."""
    size: int = setting(20_000, between(30, MOST), when=equals("data.source", "grammar"))
    """Sentences to draw from the built-in grammar, those for validation and test included."""


@dataclass(frozen=True, kw_only=True)
class Experiment(Settings):
    """One run: what is trained (the core's settings), on which data, and how."""

    name: str = setting(
        MISSING,
        Bound(
            lambda name: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None,
            "letters, digits, '.', '_' and '-'",
        ),
    )
    """Short name, part of the registered model's: arae-NAME."""
    workers: int = setting(1, at_least(1), operational=True)
    """Processes that train together. Each takes its share of the examples of a batch."""
    min_workers: int = setting(0, operational=True)
    """Start with this many workers if there is no room for all, and use more as they come. 0: wait for all. Not in
    sweeps."""
    device: str = setting("auto", one_of("auto", "cpu", "cuda"))
    """auto (cuda if there is a GPU for every worker), cpu or cuda."""
    evaluate_every: int = setting(500, at_least(1))
    """Iterations between evaluations, each with a report and a checkpoint."""
    log_every: int = setting(50, at_least(1))
    """Iterations between the points of the loss curves."""
    samples: int = setting(2000, between(1, MOST), when=DRAWS_SAMPLES)
    """Samples to draw in an evaluation."""
    max_failures: int = setting(3, at_least(0), operational=True)
    """Restarts from the last checkpoint after a lost worker, before the run counts as failed."""
    data: DataSettings = section(DataSettings, fixed="the data")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"from 0 to workers ({self.workers})"
        require(0 <= self.min_workers <= self.workers, "min_workers", self.min_workers, allowed)
        self._check_together()

    @property
    def core(self) -> Settings:
        """The settings of the core alone, as a checkpoint keeps them."""
        return Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})

    @property
    def grammar_labels(self) -> tuple[str, ...]:
        """Allowed values of data.label with the built-in grammar."""
        return GRAMMAR_ATTRIBUTES

    @property
    def without_classes(self) -> str:
        """Why the model gets no classes; "" if the data has labels."""
        return "" if self.data.label else "data.label is empty"

    @property
    def selection(self) -> tuple[str, str]:
        """The metric that chooses between models, and min or max."""
        from arae_core.evaluation.generation import SELECTION

        return SELECTION["labelled text" if self.data.label else self.kind]

    def _check_together(self) -> None:
        """Raise ValueError for settings that do not fit together."""
        if self.batch_size < self.workers:
            raise ValueError(f"batch_size must be >= workers ({self.workers}), got {self.batch_size}")
        self.check_shares(self.workers)
        kind = BUILT_IN.get(self.data.source, self.kind)
        require(self.kind == kind, "kind", self.kind, f"{kind} for data.source {self.data.source}")
        if self.data.source == "grammar" and self.data.label:
            check_one_of("data.label", self.data.label, self.grammar_labels)
        if self.kind == "image":
            require(not self.data.label, "data.label", self.data.label, "empty with kind image")
            require(len(self.data.columns) == 1, "data.columns", self.data.columns, "one column for images")
        else:
            shortest, allowed = self.data.shortest, f"<= longest ({self.longest})"
            require(shortest <= self.longest, "data.shortest", shortest, allowed)
        limit, allowed = self.data.limit, f"0 or >= batch_size ({self.batch_size})"
        require(limit == 0 or limit >= self.batch_size, "data.limit", limit, allowed)


@dataclass(frozen=True, kw_only=True)
class Classification(Experiment):
    """A classifier of few labelled examples that shares its encoder with an autoencoder of all sentences.

    An example is a row of the data: the texts of `data.columns` together, one or two, and the class in `data.label`.
    The autoencoder is trained without classes.
    """

    head: HeadSettings = section(HeadSettings)

    @classmethod
    def of(cls, experiment: Experiment) -> "Classification":
        """Make an experiment one of classification, with the default head. Raise ValueError if it has no labels."""
        if isinstance(experiment, Classification):
            return experiment
        return cls(**{f.name: getattr(experiment, f.name) for f in fields(Experiment)})

    @property
    def without_labels(self) -> Experiment:
        """The experiment of the autoencoder: all sentences, without classes."""
        values = {f.name: getattr(self, f.name) for f in fields(Experiment)}
        return Experiment(**values | {"data": replace(self.data, label="", classes=())})

    @property
    def grammar_labels(self) -> tuple[str, ...]:
        """Allowed values of data.label with the built-in grammar."""
        return (*GRAMMAR_ATTRIBUTES, "entailment")

    @property
    def without_classes(self) -> str:
        """Why the model gets no classes, although the data has labels."""
        return "classify.py trains the autoencoder without classes"

    @property
    def without_samples(self) -> str:
        """Why no samples are drawn."""
        return "classify.py draws no samples"

    def _check_together(self) -> None:
        require(self.kind == "text", "kind", self.kind, "text for classification")
        of_class = "the column with the class, for classification (--config grammar-entailment has one)"
        require(bool(self.data.label), "data.label", self.data.label, of_class)
        require(len(self.data.columns) <= 2, "data.columns", self.data.columns, "one or two, for classification")
        require(self.workers == 1, "workers", self.workers, "1: each classifier is trained by one worker")
        super()._check_together()


def experiment_of(flat: Mapping[str, Any]) -> Experiment:
    """Build an Experiment from stored settings (dotted name -> value). Raise ValueError if they are not valid."""
    return with_settings(Experiment(name=flat["name"]), upgraded(flat))


def why_without_effect(name: str, experiment: Experiment) -> str:
    """The reason why a setting has no effect in this experiment; "" if it has one."""
    return without_effect(experiment).get(name, "")


def warnings_for(experiment: Experiment) -> list[str]:
    """Warnings about settings that are supported but may not be what the user means."""
    batch = experiment.batch_normalized
    if experiment.workers > 1 and batch:
        return [
            f"{' and '.join(batch)} batch: each of the {experiment.workers} workers normalizes by its own share of the "
            "batch, so the result depends on workers; layer or none does not"
        ]
    return []


def changeable_on_resume(kind: type[Experiment] = Experiment) -> frozenset[str]:
    """Settings that a run may be resumed with other values of: they decide how it is executed, not what comes out."""
    return frozenset(named(kind, "operational"))
