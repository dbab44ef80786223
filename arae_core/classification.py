"""Classification with few labels (paper, section 6.3).

The autoencoder is trained on unlabelled sentences (Algorithm 1). A supervised step in each iteration trains encoder and
head on labelled examples: grad of -mean log p(y | codes of the example's sentences). Without unlabelled sentences, only
the supervised step is done.

Shapes: B examples of S sentences each (1, or 2 for a pair u, v), D numbers in a code, F features, K classes.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from arae_core.algorithm import Scalars, iteration
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import TokenStore
from arae_core.data.data_spec import TextSpec
from arae_core.data.labelled import LabelledStore
from arae_core.data.vocabulary import Vocabulary
from arae_core.losses import classifier_loss
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import check_precision
from arae_core.settings import HeadSettings
from arae_core.training.checkpoint import export_model, load_checkpoint, save_checkpoint
from arae_core.training.checksums import is_intact, sealed, sha256_of
from arae_core.training.loop import Report, check_lengths, run_and_average
from arae_core.training.optimizers import make_optimizer, set_rate
from arae_core.training.state import TrainingState

STREAM = 5
"""Stream of the random order of labelled batches, beside those of `BatchSampler`."""


def pair_features(codes: Tensor) -> Tensor:
    """Map codes[B, S, D] to features [B, F]: u for one sentence, F = D; u, v, |u - v| and u * v for two, F = 4 D.

    Each code is normalized to mean 0 and variance 1 first: entries of a code on the unit sphere are too small for an
    MLP.
    """
    codes = F.layer_norm(codes, codes.shape[-1:])
    if codes.shape[1] == 1:
        return codes[:, 0]
    u, v = codes.unbind(1)
    return torch.cat([u, v, (u - v).abs(), u * v], 1)


class ClassifierHead(nn.Module):
    """An MLP with dropout: features [B, F] -> logits [B, K]."""

    def __init__(self, settings: HeadSettings, code_size: int, sentences: int, classes: int) -> None:
        """sentences: S. Raise ValueError if it is not 1 or 2."""
        super().__init__()
        if sentences not in (1, 2):
            raise ValueError(f"an example must have 1 or 2 sentences, got {sentences}")
        self.settings, self.sentences = settings, sentences
        widths = (code_size * (1 if sentences == 1 else 4), *settings.hidden, classes)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, features: Tensor, state: TrainingState | None = None) -> Tensor:
        """Return the logits [B, K]. state: the source of random numbers for dropout; None: no dropout."""
        hidden = features
        for i, layer in enumerate(self.layers):
            hidden = layer(self._dropped(hidden.relu() if i else hidden, state))
        return hidden

    def _dropped(self, hidden: Tensor, state: TrainingState | None) -> Tensor:
        share = self.settings.dropout
        if state is None or share == 0:
            return hidden
        return hidden * (state.uniform(hidden.shape[0], hidden.shape[1], Parallel()) >= share) / (1 - share)


class SentenceClassifier:
    """Classifier of examples of S sentences: the encoder of an autoencoder, and a head."""

    def __init__(
        self, state: TrainingState, head: ClassifierHead, classes: Sequence[str], vocabulary: Vocabulary | None = None
    ) -> None:
        self.state, self.head, self.classes, self.vocabulary = state, head, tuple(classes), vocabulary

    @classmethod
    def new(
        cls,
        state: TrainingState,
        settings: HeadSettings,
        sentences: int,
        classes: Sequence[str],
        vocabulary: Vocabulary | None = None,
    ) -> "SentenceClassifier":
        """Build an untrained classifier; the head's weights follow from the state's seed.

        Raise ValueError for a model of images and if `sentences` is not 1 or 2.
        """
        if not isinstance(state.spec, TextSpec):
            raise ValueError("a classifier needs a model of sentences, this is a model of images")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(state.settings.seed)
            head = ClassifierHead(settings, state.settings.code.size, sentences, len(classes))
        return cls(state, head.to(state.device, state.dtype), classes, vocabulary)

    def logits(self, labelled: LabelledStore, rows: NDArray[np.int64], *, training: bool) -> tuple[Tensor, Tensor]:
        """Return the logits [B, K] and the labels [B] of the examples at rows[B]."""
        assert isinstance(self.state.spec, TextSpec)
        batch, labels = labelled.batch(rows, self.state.spec, self.state.device)
        with self.state.autocast():
            codes = self.state.encode(batch)
        features = pair_features(codes.to(self.state.dtype).unflatten(0, (len(rows), -1)))
        return self.head(features, self.state if training else None), labels

    @torch.no_grad()
    def predict(self, labelled: LabelledStore, batch_size: int = 256) -> NDArray[np.int64]:
        """Return the most probable class of each example, int64[N]."""
        self.state.modules.eval()
        longest = labelled.sentences.lengths.reshape(len(labelled), -1).max(1)
        order = np.argsort(longest, kind="stable")
        found = np.zeros(len(labelled), np.int64)
        for rows in np.array_split(order, -(-len(order) // batch_size)):
            found[rows] = self.logits(labelled, rows, training=False)[0].argmax(1).cpu().numpy()
        self.state.modules.train()
        return found

    def accuracy(self, labelled: LabelledStore) -> float:
        """Return the share of examples that are classified correctly."""
        return float((self.predict(labelled) == labelled.labels).mean())

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights of encoder and head, on their device."""
        parts = {"encoder": self.state.modules["encoder"], "head": self.head}
        return {f"{part}.{k}": v.clone() for part, module in parts.items() for k, v in module.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Restore weights that `weights` returned."""
        for part, module in {"encoder": self.state.modules["encoder"], "head": self.head}.items():
            own = {name.removeprefix(f"{part}."): v for name, v in weights.items() if name.startswith(f"{part}.")}
            module.load_state_dict(own)

    def classify(self, examples: Sequence[Sequence[str]]) -> list[str]:
        """Return the class of each example of S sentences. Sentences are cut to `longest` tokens.

        Raise ValueError for an example with another number of sentences and for an empty sentence.
        """
        assert self.vocabulary is not None
        if not examples:
            return []
        for i, example in enumerate(examples, 1):
            if len(example) != self.head.sentences:
                raise ValueError(f"example {i} must have {self.head.sentences} sentences, it has {len(example)}")
        ids = self.vocabulary.encode([text for example in examples for text in example])
        rows = [row[: self.state.settings.longest] for row in ids]
        for i, row in enumerate(rows):
            if not row:
                raise ValueError(f"example {i // self.head.sentences + 1} has an empty sentence")
        labelled = LabelledStore(TokenStore.from_rows(rows), np.zeros(len(examples), np.int64))
        return [self.classes[y] for y in self.predict(labelled)]

    def save(self, folder: Path) -> Path:
        """Save the classifier to `folder`, atomically. Raise OSError if the folder exists."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            whole = save_checkpoint(Path(scratch, "checkpoint"), self.state, self.vocabulary)
            export_model(whole, Path(scratch, "classifier", "autoencoder"))
            weights = {name: value.detach().cpu().contiguous() for name, value in self.head.state_dict().items()}
            save_file(weights, Path(scratch, "classifier", "head.safetensors"))
            content = {"head": asdict(self.head.settings), "sentences": self.head.sentences, "classes": self.classes}
            content["weights"] = sha256_of(Path(scratch, "classifier", "head.safetensors"))
            described = Path(scratch, "classifier", "head.json")
            described.write_text(json.dumps(sealed(content), indent=1) + "\n", encoding="utf-8")
            Path(scratch, "classifier", "head.safetensors").chmod(described.stat().st_mode)
            Path(scratch, "classifier").rename(folder)
        return folder

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "SentenceClassifier":
        """Load a saved classifier. Raise ValueError if the folder holds none or a damaged one."""
        folder = Path(folder)
        if not (folder / "head.json").is_file():
            raise ValueError(f"{folder} is not a classifier: it has no head.json; classify.py trains one")
        state, vocabulary, _ = load_checkpoint(folder / "autoencoder", device)
        try:
            content = json.loads((folder / "head.json").read_text(encoding="utf-8"))
            written = sha256_of(folder / "head.safetensors")
            if not is_intact(content) or content.get("weights", written) != written:
                raise ValueError("its head does not match its checksum")
            values: dict[str, Any] = content["head"] | {"hidden": tuple(content["head"]["hidden"])}
            settings = HeadSettings(**values)
            classifier = cls.new(state, settings, content["sentences"], content["classes"], vocabulary)
            classifier.head.load_state_dict(load_file(folder / "head.safetensors"))
        except Exception as error:  # a dozen types of JSON, safetensors and torch: the content is damaged
            raise ValueError(f"{folder} cannot be loaded: {' '.join(str(error).split())}") from None
        return classifier


def train_classifier(
    classifier: SentenceClassifier, labelled: LabelledStore, store: TokenStore | None, *, until: int, every: int
) -> Iterator[Report]:
    """Train from `state.step` to step `until`; yield a report at each multiple of `every` and at the end.

    store: unlabelled sentences to train the autoencoder on; None: only the supervised step is done. This step has its
    own optimizer, which cools down with the others.

    Raise FloatingPointError if a loss or a weight is no longer finite, and ValueError for sentences longer than
    `longest` and for a precision that the device cannot train in.
    """
    state, settings, parallel = classifier.state, classifier.head.settings, Parallel()
    check_precision(state.settings, state.device)
    for sentences in (labelled.sentences, *([] if store is None else [store])):
        check_lengths(sentences, state.settings)
    sampler = None
    if store is not None:
        sampler = BatchSampler(store, state.spec, state.settings.batch_size, state.settings.seed, device=state.device)
    parameters = [*state.modules["encoder"].parameters(), *classifier.head.parameters()]
    optimizer = make_optimizer(settings, parameters, cools=state.settings.cooldown > 0)
    state.end = until

    def step() -> Scalars:
        set_rate(optimizer, state.rate_left * settings.learning_rate)
        rows = np.random.default_rng((state.settings.seed, STREAM, state.step)).integers(
            len(labelled), size=min(settings.batch_size, len(labelled))
        )
        scalars = supervise(classifier, optimizer, labelled, rows)
        if sampler is None:
            state.step += 1
            return scalars
        return scalars | iteration(state, sampler, parallel)

    state.modules.train()
    while state.step < until:
        first, started = state.step, time.perf_counter()
        stop = min(until, (first // every + 1) * every)
        scalars = run_and_average(step, stop - first, parallel, state)
        scalars["ms_per_iteration"] = 1000 * (time.perf_counter() - started) / (stop - first)
        yield Report(stop, scalars)


def supervise(
    classifier: SentenceClassifier, optimizer: torch.optim.Optimizer, labelled: LabelledStore, rows: NDArray[np.int64]
) -> Scalars:
    """Take one step of encoder and head on the examples at rows[B]; return named scalars."""
    logits, labels = classifier.logits(labelled, rows, training=True)
    loss = classifier_loss(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    if clip := classifier.state.settings.gradient_clip:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
    optimizer.step()
    optimizer.zero_grad()
    right = (logits.argmax(1) == labels).to(loss.dtype).mean()
    return {"classification_loss": loss.detach(), "training_accuracy": right}
