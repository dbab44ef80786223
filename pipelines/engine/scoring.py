"""What is measured at every evaluation: reconstruction and samples, against the validation split and never the test."""

from typing import TYPE_CHECKING

from pipelines.experiment.settings import Experiment

if TYPE_CHECKING:
    from arae_core.state import TrainingState
    from pipelines.experiment.corpora import Corpus

SHOWN = 40
"""Samples kept in the tracker at every evaluation."""


class Scorer:
    """Scores a training state. What depends on the corpus alone is made once."""

    def __init__(self, experiment: Experiment, corpus: "Corpus") -> None:
        from arae_core.batches import ImageStore, TokenStore
        from arae_core.evaluation.generation import SentenceScorer
        from arae_core.evaluation.images import ImageScorer

        self.experiment, self.vocabulary = experiment, corpus.vocabulary
        train, self.validation = corpus.store("train"), corpus.store("validation")
        self._samples: SentenceScorer | ImageScorer
        if isinstance(train, TokenStore) and isinstance(self.validation, TokenStore):
            assert self.vocabulary is not None
            self._samples = SentenceScorer(train, self.validation, len(self.vocabulary))
        else:
            assert isinstance(train, ImageStore) and isinstance(self.validation, ImageStore)
            self._samples = ImageScorer(train.pixels, self.validation.pixels)

    def score(self, state: "TrainingState") -> tuple[dict[str, float], str]:
        """The figures by name, and a few of the samples as text. Draws with its own seed: training is not disturbed."""
        from arae_core.evaluation.generation import SentenceScorer
        from arae_core.sampling import Model
        from arae_core.training import evaluate_reconstruction

        scores = evaluate_reconstruction(state, self.validation)
        model = Model(state, self.vocabulary)
        if isinstance(self._samples, SentenceScorer):
            assert self.vocabulary is not None
            rows = model.generate_ids(self.experiment.samples, seed=self.experiment.seed)
            sentences = self.vocabulary.decode(rows)
            scores |= self._samples.score(rows)
            if self.experiment.data.source == "grammar":
                from pipelines.experiment.grammar import GrammarScorer

                scores |= GrammarScorer().score(sentences)
            return scores, "\n".join(sentences[:SHOWN]) + "\n"
        from pipelines.engine.display import drawn

        images = model.generate(self.experiment.samples, seed=self.experiment.seed)
        assert not isinstance(images, list)
        return scores | self._samples.score(images), "\n\n".join(map(drawn, images[:SHOWN])) + "\n"
