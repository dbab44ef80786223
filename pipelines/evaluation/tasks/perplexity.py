"""Perplexity of samples both ways, and how much of it is the decoder's (paper, section 6.1)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arae_core.data.batches import TokenStore
from arae_core.evaluation import language_model
from arae_core.evaluation.generation import SentenceScorer
from pipelines.evaluation import published
from pipelines.evaluation.evaluated_models import Subject
from pipelines.evaluation.perplexity import language_model_of, self_bleu, told
from pipelines.evaluation.plots import perplexity_figure
from pipelines.evaluation.tasks.task_types import Asked, Outcome, of_real_text

SELF_BLEU = 300
"""Samples that are each compared with all others of them."""


def sample_perplexity(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Forward and reverse perplexity by an LSTM, real training sentences as samples for a bar (paper, section 6.1); the
    bar's forward perplexity is of the split, for the model knows the training sentences.

    Of reconstructions, where they are asked for: the same sentences through a model's own codes of them and back, drawn
    as samples are. What they lack, the decoder does not say; what samples lack beside them is the prior's part.
    """
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        train, held = subject.store("train"), subject.store(asked.split)
        spec = subject.model.state.spec
        size = len(subject.model.vocabulary or ())
        real = language_model_of(subject, asked.storage, asked.say)
        scorer = SentenceScorer(train, subject.store("validation"), size)
        sets = {subject.name: subject.model.generate_ids(asked.samples, seed=asked.seed)}
        bar = f"real sentences ({subject.corpus.fingerprint})"
        real_rows = train.rows(np.random.default_rng(asked.seed).permutation(len(train))[: asked.samples])
        if bar not in [row["model"] for row in rows]:
            sets = {bar: real_rows, **sets}
        if asked.reconstructed:
            sets[f"{subject.name}, reconstructions"] = _reconstructed(subject, real_rows, asked.seed)
        for name, written in sets.items():
            asked.say(f"{name}: a language model of {len(written):,} sentences, a line an epoch")
            store = TokenStore.from_rows(written)
            of_samples = language_model.train_language_model(
                store,
                subject.store("validation"),
                spec,  # type: ignore[arg-type]
                seed=asked.seed,
                device=subject.model.state.device,
                real=train,
                progress=told(asked.say),
            )
            counted = scorer.score(written)
            some = np.linspace(0, len(store) - 1, min(len(store), len(held))).astype(np.int64)
            features = [
                language_model.sentence_features(real, each) for each in (TokenStore.from_rows(store.rows(some)), held)
            ]
            assert subject.model.vocabulary is not None
            rows.append(
                {
                    "model": name,
                    "samples": len(written),
                    "forward": language_model.perplexity(real, held if name == bar else store),
                    "reverse": language_model.perplexity(of_samples, held),
                    "distinct": counted["distinct"],
                    "novel": counted["novel"],
                    "self_bleu": self_bleu(subject.model.vocabulary.decode(written[:SELF_BLEU])),
                    "frechet": language_model.frechet_distance(*features),
                    "length": counted["mean_length"],
                }
            )
    rows += [dict(row) for row in published.PERPLEXITY if of_real_text(subjects)]
    return Outcome(rows, perplexity_figure(rows))


def _reconstructed(subject: Subject, rows: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    model = subject.model
    assert model.vocabulary is not None
    sentences = model.vocabulary.decode(rows)
    return model.encode_text(list(model.reconstruct(sentences, temperature=model.settings.temperature, seed=seed)))
