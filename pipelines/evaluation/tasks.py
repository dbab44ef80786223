"""The paper's experiments on trained models, a function each: subjects in, rows of a table and a picture out.

All take the split that is asked for: validation for any choice, test for a report.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arae_core.batches import TokenStore
from arae_core.evaluation import language_model, latent, robustness
from arae_core.evaluation.generation import SentenceScorer
from pipelines.evaluation import published
from pipelines.evaluation.figures import bars, latent_figure, swaps_figure
from pipelines.evaluation.perplexity import Say, language_model_of, self_bleu, told
from pipelines.evaluation.references import References, read_references
from pipelines.evaluation.subjects import Subject
from pipelines.evaluation.transfer import AttributeClassifier, GrammarClassifier, score_transfer
from pipelines.experiment.settings import BUILT_IN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBED = 2000
"""Sentences of the split, and draws of noise, whose codes are looked at."""
SENTENCES, NEIGHBOURS = 50, 100
"""Sentences of which the codes are compared with their neighbours', and neighbours of each (paper, section 6.1)."""
AVERAGED = 5000
"""Training sentences of a class, at most, that its mean code is of."""
SELF_BLEU = 300
"""Samples that are each compared with all others of them."""


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


def perplexity(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Forward and reverse perplexity by an LSTM, real training sentences as samples for a bar (paper, section 6.1); the
    bar's forward perplexity is of the split, for the model knows the training sentences.

    Of reconstructions, where they are asked for: the same sentences through a model's own codes of them and back, drawn
    as samples are. What they lack, the decoder does not say; what samples lack beside them is the prior's part.
    """
    rows: list[dict[str, Any]] = []
    for subject in subjects:
        train, held = subject.store("train"), subject.store(asked.split)
        shape = subject.model.state.shape
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
            asked.say(f"{name}: a language model of {len(written):,} sentences")
            store = TokenStore.from_rows(written)
            of_samples = language_model.train_language_model(
                store,
                subject.store("validation"),
                shape,  # type: ignore[arg-type]
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
    rows += [dict(row) for row in published.PERPLEXITY if _of_real_text(subjects)]
    return Outcome(rows, bars(rows, ("forward", "reverse"), "perplexity: lower is better", log=True))


def _reconstructed(subject: Subject, rows: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    model = subject.model
    assert model.vocabulary is not None
    sentences = model.vocabulary.decode(rows)
    return model.encode_text(list(model.reconstruct(sentences, temperature=model.settings.temperature, seed=seed)))


def latent_space(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Norms and variances of codes, and how near the codes of near sentences are (paper, section 6.1 and figure 2),
    beside those of random pairs of the same lengths."""
    rows, near_all, curves = [], {}, {}
    for subject in subjects:
        store = subject.store(asked.split)
        real = _codes(subject, store, np.arange(min(len(store), PROBED)))
        fake = subject.model.sample_codes(PROBED, seed=asked.seed)
        found = latent.neighbours(store, SENTENCES, NEIGHBOURS, seed=asked.seed)
        near, far, close = (list[NDArray[np.float64]]() for _ in range(3))
        for each in found:
            code = _codes(subject, store, np.array([each.row]))[0]
            for kind, others in ((near, each.near), (far, each.random), (close, each.close)):
                kind.append(latent.cosine_similarities(code, _codes(subject, store, others)))
        statistics = latent.code_statistics(real), latent.code_statistics(fake)
        figures: dict[str, Any] = {"model": subject.name, "norm c": statistics[0]["norm"]}
        figures |= {"norm c~": statistics[1]["norm"], "variance c": statistics[0]["variance"]}
        figures |= {"variance c~": statistics[1]["variance"], "sentences": len(found)}
        if found:
            figures |= {"cosine, neighbours": float(np.mean(near)), "cosine, random": float(np.mean(far))}
            if some := [cosine for cosines in close for cosine in cosines]:
                figures[f"cosine, within {latent.CLOSE}"] = float(np.mean(some))
            near_all[subject.name] = (np.concatenate(near), np.concatenate(far))
        rows.append(figures)
        curves[subject.name] = _curves(subject, asked.tracking_uri)
    return Outcome(rows, latent_figure(curves, near_all))


def _codes(subject: Subject, store: TokenStore, rows: Any) -> Any:
    return subject.model.encode_store(store, rows)


def _curves(subject: Subject, tracking_uri: str) -> Mapping[str, Any]:
    """Norms and variances over training, from MLflow; nothing where the run is not there, or there is no MLflow."""
    if not tracking_uri:
        return {}
    from mlflow.exceptions import MlflowException

    from pipelines.tracking.store import connect

    names = [f"probe_{what}_{whose}" for what in ("norm", "variance") for whose in ("real", "fake")]
    try:
        client = connect(tracking_uri)
        return {
            name: sorted((p.step, p.value) for p in client.get_metric_history(subject.run_id, name)) for name in names
        }
    except (MlflowException, OSError):
        return {}


def swaps(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Nats of sentences from the codes of themselves with k pairs of words swapped (paper, section 6.1, table 3)."""
    rows: list[dict[str, Any]] = []
    text: list[str] = []
    for subject in subjects:
        store = subject.store(asked.split)
        nats = {}
        for k in robustness.SWAPS:
            mixed = robustness.swapped(store, k, asked.seed)
            nats[f"k={k}"] = float(robustness.nats_given(subject.model.state, store, mixed).mean())
        rows.append({"model": subject.name, **nats})
        vocabulary = subject.model.vocabulary
        assert vocabulary is not None
        some = TokenStore.from_rows(store.rows(np.arange(min(3, len(store)))))
        for k in (0, 2, 4):
            read = vocabulary.decode(robustness.swapped(some, k, asked.seed).rows(range(len(some))))
            back = subject.model.reconstruct(read)
            text += [f"{subject.name}, k={k}: {a}  ->  {b}" for a, b in zip(read, back, strict=True)]
    for name, values in published.ROBUSTNESS.items() if _of_real_text(subjects) else ():
        rows.append({"model": name, **{f"k={k}": v for k, v in zip(robustness.SWAPS, values, strict=True)}})
    return Outcome(rows, swaps_figure(rows), text)


def transfer(subjects: Sequence[Subject], asked: Asked) -> Outcome:
    """Sentences said again as of the next class: accuracy and BLEU (paper, section 6.2, table 4).

    The sentences are the split's, or those of the file with references; beside the models stand a copy of the input and
    the other systems whose outputs there are. A model without classes moves codes by the difference of the classes'
    means. All are judged by the same classifier and count-based language model, of the first labelled model's data;
    reverse perplexity by the other half of the sentences, for what was copied would cover its own.
    """
    first = next(subject for subject in subjects if subject.model.classes)
    classes, given = first.model.classes, _sentences(first, asked)
    classifier = classifier_of(first, asked)
    wanted = [classes[(classes.index(label) + 1) % len(classes)] for label in given.own]
    right = sum(a == b for a, b in zip(classifier.predict(given.sentences), given.own, strict=True))
    text = [f"the classifier is right on {100 * right / len(wanted):.1f} % of the real sentences themselves"]
    written = {"copy of the input": given.sentences, **given.outputs}
    for subject in subjects:
        if subject.model.classes and subject.model.classes != classes:
            raise ValueError(f"{subject.name} knows other classes than {first.name}: evaluate them one by one")
        if subject.model.classes:
            written[subject.name] = subject.model.transfer(given.sentences, wanted, contrast=asked.contrast)
        else:
            written[subject.name] = _shifted(subject, first, given, wanted)
        shown = list(zip(wanted, given.sentences, written[subject.name], strict=True))[:6]
        text += [f"{subject.name}, {want}: {source}  ->  {output}" for want, source, output in shown]
    vocabulary, train = first.model.vocabulary, first.store("train")
    assert vocabulary is not None
    sources = vocabulary.encode(given.sentences)
    halves = [SentenceScorer(train, sources[1 - half :: 2], len(vocabulary)) for half in (0, 1)]
    rows: list[dict[str, Any]] = []
    for name, outputs in written.items():
        figures = score_transfer(classifier, given.sentences, outputs, wanted, given.rewritten)
        said = vocabulary.encode(outputs)
        scored = [scorer.score(said[half::2]) for half, scorer in enumerate(halves)]
        for way in ("forward", "reverse"):
            figures[way] = float(np.exp(np.mean([np.log(half[f"{way}_perplexity"]) for half in scored])))
        rows.append({"model": name} | {key.removeprefix("transfer_"): value for key, value in figures.items()})
    rows += [dict(row) for row in published.TRANSFER if _of_real_text(subjects)]
    shown_figures = ("accuracy", "self_bleu", "bleu", "g2") if given.rewritten else ("accuracy", "self_bleu", "score")
    return Outcome(rows, bars(rows, shown_figures, "transfer, %: higher is better"), text)


def _shifted(subject: Subject, labelled: Subject, given: References, wanted: Sequence[str]) -> list[str]:
    """The sentences by latent arithmetic: each code moved from the mean code of its class to that of the one wanted.

    The means are those of sentences on which `labelled` was trained.
    """
    train, classes, vocabulary = labelled.store("train"), labelled.model.classes, labelled.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    rows = [np.flatnonzero(train.labels == y)[:AVERAGED] for y in range(len(classes))]
    means = [subject.model.encode(vocabulary.decode(train.rows(some))).mean(0) for some in rows]
    written = [""] * len(wanted)
    for pair in sorted(set(zip(given.own, wanted, strict=True))):
        places = [i for i, own in enumerate(zip(given.own, wanted, strict=True)) if own == pair]
        offset = means[classes.index(pair[1])] - means[classes.index(pair[0])]
        for i, sentence in zip(places, subject.model.shift([given.sentences[i] for i in places], offset), strict=True):
            written[i] = sentence
    return written


def classifier_of(subject: Subject, asked: Asked) -> AttributeClassifier | GrammarClassifier:
    """Of the classes that the subject knows: exact for the built-in grammar, else of its training sentences."""
    if subject.experiment.data.source == "grammar":
        return GrammarClassifier(subject.experiment.data.label)
    train, vocabulary = subject.store("train"), subject.model.vocabulary
    assert train.labels is not None and vocabulary is not None
    asked.say(f"a classifier of {len(train):,} real sentences")
    real = vocabulary.decode(train.rows(range(len(train))))
    return AttributeClassifier(real, [subject.model.classes[y] for y in train.labels])


def _sentences(subject: Subject, asked: Asked) -> References:
    if asked.references is not None:
        cache = asked.storage / "data" / ".cache"
        return read_references(asked.references, asked.outputs, subject.model.classes, cache)
    held, vocabulary = subject.store(asked.split), subject.model.vocabulary
    assert held.labels is not None and vocabulary is not None
    own = [subject.model.classes[y] for y in held.labels]
    return References(vocabulary.decode(held.rows(range(len(held)))), own, [], {})


def _of_real_text(subjects: Sequence[Subject]) -> bool:
    """Whether any is of real text: beside the built-in grammar, published figures say nothing."""
    return any(subject.experiment.data.source not in BUILT_IN for subject in subjects)


def supported(task: str, subjects: Sequence[Subject]) -> str | None:
    """Why the models cannot take part in the task, or None where they can."""
    if task == "transfer" and not any(subject.model.classes for subject in subjects):
        return (
            "no model has an attribute; train one with --data.label COLUMN, for example --config grammar-sentiment "
            "(a model without one can stand beside it)"
        )
    return None


TASKS: dict[str, Callable[[Sequence[Subject], Asked], Outcome]] = {
    "perplexity": perplexity,
    "latent": latent_space,
    "robustness": swaps,
    "transfer": transfer,
}
