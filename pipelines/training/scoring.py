"""What is measured at every evaluation: reconstruction and samples, against the validation split and never the test."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from arae_core.data.batches import ImageStore, TokenStore, evenly_spaced
from arae_core.data.data_spec import TextSpec
from arae_core.evaluation.latent import code_statistics
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    from arae_core.evaluation.generation import SentenceScorer
    from arae_core.evaluation.images import ImageScorer
    from arae_core.model import Model
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.evaluation.transfer_metrics import AttributeClassifier, GrammarClassifier

    Classifier = AttributeClassifier | GrammarClassifier

SHOWN = 40
"""Samples kept in the tracker at every evaluation."""
PROBED = 2000
"""Validation examples, and draws of noise, whose codes are looked at."""
TRANSFERRED = 1000
"""Validation sentences said again with another attribute at every evaluation."""
TAUGHT = 100_000
"""Training sentences that the classifier of attributes learns from."""


@cache
def _judges(folder: Path, grammatical: str) -> "tuple[SentenceScorer | ImageScorer, Classifier | None]":
    """What judges samples and, of labelled sentences, their classes: made of a corpus once a process, for a trial after
    another in it. grammatical: the attribute by which the built-in grammar itself judges classes, if it does."""
    from arae_core.evaluation.generation import SentenceScorer
    from arae_core.evaluation.images import ImageScorer
    from pipelines.corpora.corpus import Corpus
    from pipelines.evaluation.transfer_metrics import AttributeClassifier, GrammarClassifier

    corpus = Corpus.load(folder)
    train, validation, vocabulary = corpus.store("train"), corpus.store("validation"), corpus.vocabulary
    if isinstance(train, ImageStore) and isinstance(validation, ImageStore):
        return ImageScorer(train.pixels, validation.pixels), None
    assert isinstance(train, TokenStore) and isinstance(validation, TokenStore) and vocabulary is not None
    assert isinstance(corpus.spec, TextSpec)
    samples, classes = SentenceScorer(train, validation, len(vocabulary)), corpus.spec.classes
    if grammatical or not classes:
        return samples, GrammarClassifier(grammatical) if grammatical else None
    assert train.labels is not None
    rows = evenly_spaced(len(train), TAUGHT)
    real, labels = vocabulary.decode(train.rows(rows)), [classes[y] for y in train.labels[rows]]
    return samples, AttributeClassifier(real, labels)


class Scorer:
    """Scores a training state. What depends on the corpus alone is made once."""

    def __init__(self, experiment: Experiment, corpus: "Corpus") -> None:
        self.experiment, self.vocabulary = experiment, corpus.vocabulary
        self.validation = corpus.store("validation")
        grammatical = experiment.data.label if experiment.data.source == "grammar" else ""
        self._samples, self._classifier = _judges(corpus.folder, grammatical)

    def _probed(self, model: "Model") -> dict[str, float]:
        """Norms and variances of codes, always of the same validation examples and of the same noise."""
        rows = evenly_spaced(len(self.validation), PROBED)
        codes = {
            "real": model.encode_store(self.validation, rows),
            "fake": model.sample_codes(PROBED, seed=self.experiment.seed),
        }
        return {
            f"probe_{what}_{whose}": value
            for whose, found in codes.items()
            for what, value in code_statistics(found).items()
        }

    def _transferred(self, model: "Model") -> tuple[dict[str, float], str]:
        """How well validation sentences take the next class, and a few of them as text."""
        from pipelines.evaluation.transfer_metrics import score_transfer

        store, classes = self.validation, model.classes
        assert isinstance(store, TokenStore) and store.labels is not None and self.vocabulary is not None
        rows = evenly_spaced(len(store), TRANSFERRED)
        sources = self.vocabulary.decode(store.rows(rows))
        wanted = [classes[(y + 1) % len(classes)] for y in store.labels[rows]]
        outputs = model.transfer(sources, wanted)
        shown = zip(wanted[:SHOWN], sources, outputs, strict=False)
        text = "".join(f"{want}\t{source}\t{output}\n" for want, source, output in shown)
        assert self._classifier is not None
        return score_transfer(self._classifier, sources, outputs, wanted), text

    def score(self, state: "TrainingState") -> tuple[dict[str, float], str]:
        """The figures by name, and a few of the samples as text. Draws with its own seed: training is not disturbed."""
        from arae_core.evaluation.generation import SentenceScorer
        from arae_core.model import Model
        from arae_core.training.loop import evaluate_reconstruction

        scores = evaluate_reconstruction(state, self.validation)
        model = Model(state, self.vocabulary)
        scores |= self._probed(model)
        if isinstance(self._samples, SentenceScorer):
            assert self.vocabulary is not None
            rows = model.generate_ids(self.experiment.samples, seed=self.experiment.seed)
            sentences = self.vocabulary.decode(rows)
            scores |= self._samples.score(rows, scores["validation_nll"])
            shown = "\n".join(sentences[:SHOWN]) + "\n"
            if model.classes:
                transferred, text = self._transferred(model)
                scores |= transferred
                shown += "\nclass asked for, sentence, what became of it\n" + text
            if self.experiment.data.source == "grammar":
                from pipelines.corpora.grammar import GrammarScorer

                scores |= GrammarScorer().score(sentences)
            return scores, shown
        from pipelines.reporting.display import drawn

        images = model.generate(self.experiment.samples, seed=self.experiment.seed)
        assert not isinstance(images, list)
        return scores | self._samples.score(images), "\n\n".join(map(drawn, images[:SHOWN])) + "\n"
