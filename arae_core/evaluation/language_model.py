"""An LSTM language model of a corpus, and what the paper measures with it: perplexity both ways (section 6.1).

Forward: the perplexity of samples under a model of real text. Reverse: of real text under a model of samples. The end
mark and the mark for unknown words are tokens like any other. Frechet distance: of the Gaussians fitted to the model's
sentence features of two sets of sentences, as that of images (Heusel et al. 2017).

Shapes: N sentences, B in a batch, T tokens with one mark, H units, V entries of the vocabulary, M valid tokens.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arae_core.data.batches import TextBatch, TokenStore, grouped_order, make_batch
from arae_core.data.data_spec import TextSpec

UNITS, DROPOUT, RATE, BATCH, CLIP = 300, 0.2, 2e-3, 64, 5.0
SEEN, FEWEST_EPOCHS, MOST_EPOCHS, PATIENCE = 200_000, 4, 12, 2
"""As many epochs as see about SEEN sentences in all, within these bounds; done when PATIENCE epochs in a row have not
been the best."""
COMMON, RARE, NARROWER = 500, 3000, 4
"""The commonest entries are told apart at once; those up to RARE, and the rest, only where a token is one of them, by
NARROWER times fewer numbers each."""


class LanguageModel(nn.Module):
    """p(x), one layer of LSTM with an adaptive softmax (Grave et al. 2017, https://arxiv.org/abs/1609.04309).

    An exact distribution over the whole vocabulary, whose cost is that of the words that occur: on SNLI the same
    perplexities as with one softmax over 11,000 words, in a quarter of the time.
    """

    by_frequency: Tensor
    """The place of every entry of the vocabulary, the commonest first: [V]."""

    def __init__(self, spec: TextSpec, units: int = UNITS, counts: NDArray[np.int64] | None = None):
        """counts: how often each entry occurs, [V]; not needed where the weights are to be loaded."""
        super().__init__()
        size = spec.vocabulary
        order = np.argsort(-counts, kind="stable") if counts is not None else np.arange(size)
        self.spec = spec
        self.register_buffer("by_frequency", torch.from_numpy(np.argsort(order)))
        self.embedding = nn.Embedding(size, units)
        self.lstm = nn.LSTM(units, units, batch_first=True)
        cutoffs = [cutoff for cutoff in (COMMON, RARE) if cutoff < size] or [size - 1]
        self.output = nn.AdaptiveLogSoftmaxWithLoss(units, size, cutoffs, NARROWER, head_bias=True)
        self.dropout = nn.Dropout(DROPOUT)

    def states(self, batch: TextBatch) -> Tensor:
        """Hidden states [B, T, H] over start mark and words."""
        hidden, _ = self.lstm(self.dropout(self.embedding(batch.source)))
        states: Tensor = hidden
        return states

    def nll(self, batch: TextBatch) -> tuple[Tensor, int]:
        """-log p(x) in nats, summed over the valid tokens, and how many there are."""
        valid = (torch.arange(batch.source.shape[1]) < batch.lengths[:, None]).flatten().nonzero().squeeze(1)
        valid = valid.to(batch.source.device)
        states = self.dropout(self.states(batch).flatten(0, 1)[valid])
        found = self.output(states, self.by_frequency[batch.target.flatten()[valid]])
        return -found.output.sum(), len(valid)


def train_language_model(
    train: TokenStore,
    validation: TokenStore,
    spec: TextSpec,
    *,
    real: TokenStore,
    seed: int = 0,
    device: torch.device | str = "cpu",
    units: int = UNITS,
    seen: int = SEEN,
    progress: Callable[[int, int, float], None] = lambda epoch, epochs, perplexity: None,
) -> LanguageModel:
    """A model of `train`, of the epoch that was best on `validation`. Adam, its rate falling to zero in a line.

    On two cores, 20,000 sentences of SNLI take about a minute.

    real: sentences by whose frequencies words are put in clusters. By those of a model's samples, words that it never
    writes would be a cluster almost without probability, and real text, which has them, less probable than by one
    softmax.
    progress: told of every epoch that is done, of how many, and the perplexity of validation after it.
    Raises ValueError where there is nothing to train on, or training diverges.
    """
    if not len(train) or not len(validation):
        raise ValueError("a language model needs sentences to learn from and others to choose its best epoch by")
    device, size = torch.device(device), min(BATCH, len(train))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        counts = np.bincount(real.ids, minlength=spec.vocabulary)
        counts[spec.end] += len(real)
        model = LanguageModel(spec, units, counts).to(device)
        optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(seen / len(train))))
        steps, step = epochs * math.ceil(len(train) / size), 0
        best, best_epoch, weights = math.inf, -1, None
        for epoch in range(epochs):
            if epoch - best_epoch > PATIENCE:
                break
            model.train()
            for rows in grouped_order(train.lengths, len(train), size, (seed, epoch)):
                for group in optimizer.param_groups:
                    group["lr"] = RATE * (1 - step / steps)
                batch = make_batch(train, rows, spec, device)
                assert isinstance(batch, TextBatch)
                nll, count = model.nll(batch)
                optimizer.zero_grad()
                (nll / count).backward()
                nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                step += 1
            found = perplexity(model, validation)
            progress(epoch + 1, epochs, found)
            if found < best:
                best, best_epoch, weights = found, epoch, copy.deepcopy(model.state_dict())
    if weights is None:
        raise ValueError("the language model never reached a finite perplexity on validation")
    model.load_state_dict(weights)
    return model


@torch.no_grad()
def perplexity(model: LanguageModel, store: TokenStore) -> float:
    """exp of the nats a token, end marks counted. ValueError where there are no sentences."""
    if not len(store):
        raise ValueError("perplexity needs at least one sentence")
    model.eval()
    total, count = 0.0, 0
    for batch in _batches(model, store):
        nll, tokens = model.nll(batch)
        total, count = total + float(nll), count + tokens
    return math.exp(min(total / count, 700.0))


@torch.no_grad()
def sentence_features(model: LanguageModel, store: TokenStore) -> NDArray[np.float64]:
    """The mean of each sentence's hidden states, float64[N, H], in the store's order."""
    model.eval()
    features = np.zeros((len(store), model.lstm.hidden_size))
    order = np.argsort(store.lengths, kind="stable")
    first = 0
    for batch in _batches(model, store):
        states = model.states(batch)
        valid = (torch.arange(states.shape[1]) < batch.lengths[:, None]).to(states)[:, :, None]
        means = (states * valid).sum(1) / valid.sum(1)
        features[order[first : first + len(batch)]] = means.double().cpu().numpy()
        first += len(batch)
    return features


def frechet_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2) of the Gaussians fitted to first[N, H] and second[M, H].

    Raises ValueError for fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("the Frechet distance needs two sentences or more on either side")
    s1, s2 = np.atleast_2d(np.cov(first, rowvar=False)), np.atleast_2d(np.cov(second, rowvar=False))
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # tr (S1 S2)^1/2 = tr (R S2 R)^1/2 with R = S1^1/2, and that is symmetric
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ s2 @ root), 0, None)).sum()
    difference = first.mean(0) - second.mean(0)
    return max(0.0, float(difference @ difference + np.trace(s1) + np.trace(s2) - 2 * cross))


def _batches(model: LanguageModel, store: TokenStore) -> "list[TextBatch]":
    """The whole store, in order of length."""
    device = model.by_frequency.device
    order = np.argsort(store.lengths, kind="stable")
    batches = []
    for first in range(0, len(order), 256):
        batch = make_batch(store, order[first : first + 256], model.spec, device)
        assert isinstance(batch, TextBatch)
        batches.append(batch)
    return batches
