"""Forward and reverse perplexity of samples and of reconstructions (paper, section 6.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arae_core.data.batches import TokenStore
from arae_core.evaluation import language_model
from arae_core.evaluation.generation import SentenceScorer
from pipelines.evaluation import published
from pipelines.evaluation.corpus_language_model import epoch_logger, load_or_train_language_model, self_bleu
from pipelines.evaluation.evaluated_models import EvaluatedModel
from pipelines.evaluation.plots import perplexity_figure
from pipelines.evaluation.tasks.task_types import TaskOptions, TaskResult, any_real_text

SELF_BLEU = 300
"""Samples that self-BLEU compares."""

Ids = Sequence[Sequence[int]]


def sample_perplexity(models: Sequence[EvaluatedModel], options: TaskOptions) -> TaskResult:
    """Measure perplexity with LSTM language models (paper, section 6.1).

    Forward: of the samples, by a model of real sentences. Reverse: of the split, by a model of the samples. Real
    training sentences are the reference; their forward perplexity is that of the split, because the language model has
    seen the training sentences.

    With `options.reconstructed`, training sentences are also encoded, and decoded as samples are. What reconstructions
    lose is due to the decoder; what samples lose beyond that is due to the prior.
    """
    rows: list[dict[str, Any]] = []
    for model in models:
        scorer, train = _Scorer(model, options), model.store("train")
        reference = f"real sentences ({model.corpus.fingerprint})"
        real = train.rows(np.random.default_rng(options.seed).permutation(len(train))[: options.samples])
        if reference not in [row["model"] for row in rows]:
            rows.append(scorer.score(reference, real, real=True))
        rows.append(scorer.score(model.name, model.model.generate_ids(options.samples, seed=options.seed)))
        if options.reconstructed:
            decoded = reconstruct_ids(model, real, options.seed)
            rows.append(scorer.score(f"{model.name}, reconstructions", decoded))
    if any_real_text(models):
        rows += [dict(row) for row in published.PERPLEXITY]
    return TaskResult(rows, perplexity_figure(rows))


class _Scorer:
    """Scores sentences against the data of one model. Language models of the real text are made once."""

    def __init__(self, model: EvaluatedModel, options: TaskOptions) -> None:
        assert model.model.vocabulary is not None
        self.state, self.vocabulary, self.options = model.model.state, model.model.vocabulary, options
        self.train, self.validation = model.store("train"), model.store("validation")
        self.held_out = model.store(options.split)
        self.of_real = load_or_train_language_model(model, options.storage, options.log)
        self.counts = SentenceScorer(self.train, self.validation, len(self.vocabulary))

    def score(self, name: str, sentences: Ids, *, real: bool = False) -> dict[str, Any]:
        """Return the row of sentences, given as token ids. real: they are training sentences."""
        store = TokenStore.from_rows(sentences)
        self.options.log(f"{name}: training a language model of {len(sentences):,} sentences")
        of_samples = language_model.train_language_model(
            store,
            self.validation,
            self.state.spec,  # type: ignore[arg-type]
            seed=self.options.seed,
            device=self.state.device,
            real=self.train,
            progress=epoch_logger(self.options.log),
        )
        counted = self.counts.score(sentences)
        subset = np.linspace(0, len(store) - 1, min(len(store), len(self.held_out))).astype(np.int64)
        compared = (TokenStore.from_rows(store.rows(subset)), self.held_out)
        features = [language_model.sentence_features(self.of_real, each) for each in compared]
        return {
            "model": name,
            "samples": len(sentences),
            "forward": language_model.perplexity(self.of_real, self.held_out if real else store),
            "reverse": language_model.perplexity(of_samples, self.held_out),
            "distinct": counted["distinct"],
            "novel": counted["novel"],
            "self_bleu": self_bleu(self.vocabulary.decode(sentences[:SELF_BLEU])),
            "frechet": language_model.frechet_distance(*features),
            "length": counted["mean_length"],
        }


def reconstruct_ids(model: EvaluatedModel, rows: Ids, seed: int) -> list[list[int]]:
    """Encode sentences, given as token ids, and decode their codes at the model's sampling temperature."""
    vocabulary = model.model.vocabulary
    assert vocabulary is not None
    temperature = model.model.settings.temperature
    decoded = model.model.reconstruct(vocabulary.decode(rows), temperature=temperature, seed=seed)
    return model.model.encode_text(list(decoded))
