"""Scores of an evaluation: reconstruction and samples against the validation split, never against the test split."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from arae_core.data.batches import ImageStore, TokenStore, evenly_spaced
from arae_core.data.data_spec import TextSpec
from arae_core.evaluation.latent import code_statistics
from pipelines.evaluation.drawing import image_text
from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    from arae_core.evaluation.generation import SentenceScorer
    from arae_core.evaluation.images import ImageScorer
    from arae_core.model import Model
    from arae_core.training.state import TrainingState
    from pipelines.corpora.corpus import Corpus
    from pipelines.evaluation.transfer_metrics import AttributeClassifier, GrammarClassifier

    Classifier = AttributeClassifier | GrammarClassifier

SAMPLES_SHOWN = 40
"""Samples saved in the tracker at every evaluation."""
PROBED_CODES = 2000
"""Codes of validation examples, and of noise, whose norms and variances are measured."""
TRANSFER_SENTENCES = 1000
"""Validation sentences transferred to another class at every evaluation."""
CLASSIFIER_SENTENCES = 100_000
"""Training sentences that the attribute classifier learns from."""


@cache
def _corpus_scorers(folder: Path, attribute: str) -> "tuple[SentenceScorer | ImageScorer, Classifier | None]":
    """Return the scorer of samples and the classifier of labelled sentences for a corpus.

    Cached, because one process runs many trials. attribute: of the built-in grammar, which classifies exactly; "" for
    other data.
    """
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
    if attribute or not classes:
        return samples, GrammarClassifier(attribute) if attribute else None
    assert train.labels is not None
    rows = evenly_spaced(len(train), CLASSIFIER_SENTENCES)
    real, labels = vocabulary.decode(train.rows(rows)), [classes[y] for y in train.labels[rows]]
    return samples, AttributeClassifier(real, labels)


class Scorer:
    """Scorer of training states."""

    def __init__(self, experiment: Experiment, corpus: "Corpus") -> None:
        self.experiment, self.vocabulary = experiment, corpus.vocabulary
        self.validation = corpus.store("validation")
        attribute = experiment.data.label if experiment.data.source == "grammar" else ""
        self._samples, self._classifier = _corpus_scorers(corpus.folder, attribute)

    def _code_statistics(self, model: "Model") -> dict[str, float]:
        """Return norms and variances of codes, always of the same validation examples and the same noise."""
        rows = evenly_spaced(len(self.validation), PROBED_CODES)
        codes = {
            "real": model.encode_store(self.validation, rows),
            "fake": model.sample_codes(PROBED_CODES, seed=self.experiment.seed),
        }
        return {
            f"probe_{statistic}_{kind}": value
            for kind, some in codes.items()
            for statistic, value in code_statistics(some).items()
        }

    def _score_transfer(self, model: "Model") -> tuple[dict[str, float], str]:
        """Transfer validation sentences to the next class; return the scores and some of the sentences as text."""
        from pipelines.evaluation.transfer_metrics import score_transfer

        store, classes = self.validation, model.classes
        assert isinstance(store, TokenStore) and store.labels is not None and self.vocabulary is not None
        rows = evenly_spaced(len(store), TRANSFER_SENTENCES)
        sources = self.vocabulary.decode(store.rows(rows))
        wanted = [classes[(y + 1) % len(classes)] for y in store.labels[rows]]
        outputs = model.transfer(sources, wanted)
        shown = zip(wanted[:SAMPLES_SHOWN], sources, outputs, strict=False)
        text = "".join(f"{want}\t{source}\t{output}\n" for want, source, output in shown)
        assert self._classifier is not None
        return score_transfer(self._classifier, sources, outputs, wanted), text

    def score(self, state: "TrainingState") -> tuple[dict[str, float], str]:
        """Return scores by name, and some samples as text.

        Sampling has its own seed and does not change the random state of training.
        """
        from arae_core.evaluation.generation import SentenceScorer
        from arae_core.model import Model
        from arae_core.training.loop import evaluate_reconstruction
        from pipelines.corpora.grammar import GrammarScorer

        scores = evaluate_reconstruction(state, self.validation)
        model = Model(state, self.vocabulary)
        scores |= self._code_statistics(model)
        if not isinstance(self._samples, SentenceScorer):
            images = model.generate(self.experiment.samples, seed=self.experiment.seed)
            assert not isinstance(images, list)
            return scores | self._samples.score(images), "\n\n".join(map(image_text, images[:SAMPLES_SHOWN])) + "\n"
        assert self.vocabulary is not None
        rows = model.generate_ids(self.experiment.samples, seed=self.experiment.seed)
        sentences = self.vocabulary.decode(rows)
        scores |= self._samples.score(rows, scores["validation_nll"])
        shown = "\n".join(sentences[:SAMPLES_SHOWN]) + "\n"
        if model.classes:
            transferred, text = self._score_transfer(model)
            scores |= transferred
            shown += "\nclass, sentence, transferred sentence\n" + text
        if self.experiment.data.source == "grammar":
            scores |= GrammarScorer().score(sentences)
        return scores, shown
