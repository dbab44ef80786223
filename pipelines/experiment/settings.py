"""Everything one run is made of: the core's settings, the data, and how it is run. Imports no Ray, no torch.

An `Experiment` is a `Settings` of the core with a few more fields, so the core takes it as it is and a setting has
one dotted name everywhere: `critic.steps`, `data.source`, `workers`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from typing import Any

from arae_core.settings import HeadSettings, Settings, relevance
from arae_core.settings.checks import at_least, between, one_of, require
from arae_core.settings.tree import with_settings

DEVICES = ("auto", "cpu", "cuda")
BUILT_IN = {"grammar": "text", "digits": "image"}
"""Sources that need no file and no network -> their kind."""
MOST = 10_000_000
"""Sentences drawn, from the grammar or at an evaluation: they are held in memory, some hundred bytes each."""
GRAMMAR_ATTRIBUTES = ("tense", "number", "sentiment")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the examples come from, and which of them are used."""

    source: str = "grammar"
    """grammar or digits (built in), a folder with train, validation and test files, one file, or a name on the hub."""
    columns: tuple[str, ...] = ("text",)
    """Columns that hold the examples; each value of several columns is an example of its own."""
    label: str = ""
    """Column that holds the attribute of each example, a class label or a word; of grammar: tense, number or sentiment.
    Empty: no attribute, Algorithm 1; else Algorithm 2 (text)."""
    classes: tuple[str, ...] = ()
    """Values of the attribute that are used, two or more; empty: all. Examples of others are left out and counted."""
    distinct: bool = True
    """Count a text once, and keep from training what validation or test holds (text)."""
    shortest: int = 1
    """Tokens that a sentence must have. Shorter ones are left out and counted (text)."""
    limit: int = 0
    """Training examples used, drawn at random but always the same; 0: all."""
    size: int = 20_000
    """Sentences drawn from the built-in grammar, those for validation and test included."""

    def __post_init__(self) -> None:
        require(bool(self.source), "data.source", self.source, "grammar, digits, a folder, a file or a name on the hub")
        require(bool(self.columns) and all(self.columns), "data.columns", self.columns, "one or more column names")
        require(len(set(self.columns)) == len(self.columns), "data.columns", self.columns, "names without repetition")
        require(len(set(self.classes)) == len(self.classes) != 1, "data.classes", self.classes, "two or more names")
        at_least("data.shortest", self.shortest, 1)
        at_least("data.limit", self.limit, 0)
        between("data.size", self.size, 30, MOST)


@dataclass(frozen=True, kw_only=True)
class Experiment(Settings):
    """One run: what is trained (the core's settings), on which data, and how."""

    name: str
    """Short name, part of the registered model's: arae-NAME."""
    workers: int = 1
    """Processes that train together; each takes its share of the examples of a batch."""
    min_workers: int = 0
    """Start with as few where there is no room for all, and use what comes, up to `workers`; 0: wait for all of them.
    Not in sweeps."""
    device: str = "auto"
    """auto (cuda where there is one for every worker), cpu or cuda."""
    evaluate_every: int = 500
    """Iterations between evaluations, each with a report and a checkpoint."""
    log_every: int = 50
    """Iterations between the points of the loss curves."""
    samples: int = 2000
    """Samples drawn at an evaluation."""
    max_failures: int = 3
    """Restarts from the last checkpoint after a lost worker, before the run counts as failed."""
    data: Data = field(default_factory=Data)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is not None,
            "name",
            self.name,
            "letters, digits, '.', '_' and '-'",
        )
        at_least("workers", self.workers, 1)
        allowed = f"from 0 to workers ({self.workers})"
        require(0 <= self.min_workers <= self.workers, "min_workers", self.min_workers, allowed)
        one_of("device", self.device, DEVICES)
        at_least("evaluate_every", self.evaluate_every, 1)
        at_least("log_every", self.log_every, 1)
        between("samples", self.samples, 1, MOST)
        at_least("max_failures", self.max_failures, 0)
        self._check_together()

    @property
    def core(self) -> Settings:
        """The part of it that is the core's, as a checkpoint keeps it."""
        return Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})

    @property
    def grammar_labels(self) -> tuple[str, ...]:
        """What data.label may be of the built-in grammar."""
        return GRAMMAR_ATTRIBUTES

    @property
    def selection(self) -> tuple[str, str]:
        """The figure of an evaluation that chooses between models, and min or max."""
        from arae_core.evaluation.generation import SELECTION

        return SELECTION["labelled text" if self.data.label else self.kind]

    def _check_together(self) -> None:
        """What no single setting can say."""
        if self.batch_size < self.workers:
            raise ValueError(f"batch_size must be >= workers ({self.workers}), got {self.batch_size}")
        self.check_shares(self.workers)
        kind = BUILT_IN.get(self.data.source, self.kind)
        require(self.kind == kind, "kind", self.kind, f"{kind} for data.source {self.data.source}")
        if self.data.source == "grammar" and self.data.label:
            one_of("data.label", self.data.label, self.grammar_labels)
        if self.kind == "image":
            require(not self.data.label, "data.label", self.data.label, "empty with kind image")
            require(len(self.data.columns) == 1, "data.columns", self.data.columns, "one column for images")
        else:
            require(
                self.data.shortest <= self.longest,
                "data.shortest",
                self.data.shortest,
                f"<= longest ({self.longest})",
            )
        if self.data.limit:
            require(
                self.data.limit >= self.batch_size,
                "data.limit",
                self.data.limit,
                f"0 or >= batch_size ({self.batch_size})",
            )


@dataclass(frozen=True, kw_only=True)
class Classification(Experiment):
    """A classifier of few labelled examples, which has its encoder in common with an autoencoder of all sentences.

    An example is a row of the data: the texts of `data.columns` together, one or two, and the class in `data.label`.
    """

    head: HeadSettings = field(default_factory=HeadSettings)

    @classmethod
    def of(cls, experiment: Experiment) -> "Classification":
        """The same experiment as one of classification, with the default head. Raises ValueError where it has no
        labels."""
        if isinstance(experiment, Classification):
            return experiment
        return cls(**{f.name: getattr(experiment, f.name) for f in fields(Experiment)})

    @property
    def without_labels(self) -> Experiment:
        """What the autoencoder is trained on: every sentence, none with a class."""
        values = {f.name: getattr(self, f.name) for f in fields(Experiment)}
        return Experiment(**values | {"data": replace(self.data, label="", classes=())})

    @property
    def grammar_labels(self) -> tuple[str, ...]:
        return (*GRAMMAR_ATTRIBUTES, "entailment")

    def _check_together(self) -> None:
        require(self.kind == "text", "kind", self.kind, "text for classification")
        of_class = "the column with the class, for classification (--config grammar-entailment has one)"
        require(bool(self.data.label), "data.label", self.data.label, of_class)
        require(len(self.data.columns) <= 2, "data.columns", self.data.columns, "one or two, for classification")
        require(self.workers == 1, "workers", self.workers, "1: each classifier is trained by one worker")
        super()._check_together()


def experiment_of(flat: Mapping[str, Any]) -> Experiment:
    """The Experiment with these settings (dotted name -> value). Raises ValueError where they are not valid."""
    return with_settings(Experiment(name=flat["name"]), flat)


def ignored(experiment: Experiment) -> dict[str, str]:
    """Dotted names (a trailing * stands for a whole part) that these settings make irrelevant -> why."""
    classes = bool(experiment.data.label) and not isinstance(experiment, Classification)
    why = relevance.ignored(experiment, classes=classes)
    if experiment.kind == "image":
        why["data.distinct"] = why["data.shortest"] = "kind is image"
    if not experiment.data.label:
        why |= dict.fromkeys((*relevance.OF_CLASSES, "data.classes"), "data.label is empty")
    if isinstance(experiment, Classification):
        why |= dict.fromkeys(relevance.OF_CLASSES, "classify.py trains the autoencoder without classes")
        why |= dict.fromkeys(("samples", "temperature"), "classify.py draws no samples")
        if experiment.head.optimizer != "adam":
            why["head.beta1"] = why["head.beta2"] = f"head.optimizer is {experiment.head.optimizer}"
    if experiment.data.source in BUILT_IN:
        why["data.columns"] = f"data.source is {experiment.data.source}"
    if experiment.data.source != "grammar":
        why["data.size"] = f"data.source is {experiment.data.source}"
    return why


def why_without_effect(name: str, experiment: Experiment) -> str:
    """Why a setting does nothing in this experiment; empty where it does something."""
    reasons = [why for pattern, why in ignored(experiment).items() if fnmatch(name, pattern)]
    return next((why for why in reasons if not why.startswith(f"{name} ")), "")


def warnings_for(experiment: Experiment) -> list[str]:
    """What these settings do that may not be what is meant, though it is supported."""
    batch = experiment.batch_normalized
    if experiment.workers > 1 and batch:
        return [
            f"{' and '.join(batch)} batch: each of the {experiment.workers} workers normalises by its own share of the "
            "batch, so the result depends on workers; layer or none does not"
        ]
    return []
