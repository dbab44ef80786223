"""LSTM language model, forward and reverse perplexity (paper, section 6.1), and the Frechet distance.

Forward perplexity is the perplexity of samples under a model of real text; reverse perplexity is that of real text
under a model of samples. The end mark and the unknown-word token count as ordinary tokens. The Frechet distance
compares Gaussians fitted to sentence features of two sets of sentences, as FID does for images (Heusel et al. 2017).

Shapes: N sentences, B batch size, T tokens including one mark, H hidden units, V vocabulary size, M valid tokens.
"""

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from arae_core.data.batches import TextBatch, TokenStore, grouped_order, make_batch
from arae_core.data.data_spec import TextSpec

UNITS, DROPOUT, RATE, BATCH, CLIP = 300, 0.2, 2e-3, 64, 5.0
SEEN, FEWEST_EPOCHS, MOST_EPOCHS, PATIENCE = 200_000, 4, 12, 2
"""Train for about SEEN sentences in total, between FEWEST_EPOCHS and MOST_EPOCHS epochs, and stop early after PATIENCE
consecutive epochs without improvement."""
COMMON, RARE, NARROWER = 500, 3000, 4
"""Clusters of the adaptive softmax: the COMMON most frequent entries are in the head, those up to rank RARE in the
first tail cluster, the rest in the second. Each tail cluster has NARROWER times fewer dimensions than the previous."""


class LanguageModel(nn.Module):
    """Single-layer LSTM language model with an adaptive softmax (Grave et al. 2017, https://arxiv.org/abs/1609.04309).

    The distribution over the vocabulary is exact, but rare words cost time only where they occur. On SNLI this gives
    the same perplexities as a full softmax over 11,000 words in a quarter of the time.
    """

    by_frequency: Tensor
    """Frequency rank of each vocabulary entry, 0 for the most frequent: int64[V]."""

    def __init__(self, spec: TextSpec, units: int = UNITS, counts: NDArray[np.int64] | None = None):
        """counts: frequency of each vocabulary entry, int64[V]; may be omitted if weights are loaded afterwards."""
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
        """Return the hidden states [B, T, H] after the start mark and each word."""
        hidden, _ = self.lstm(self.dropout(self.embedding(batch.source)))
        states: Tensor = hidden
        return states

    def nll(self, batch: TextBatch) -> tuple[Tensor, int]:
        """Return -log p(x) in nats, summed over the M valid tokens of the batch, and M."""
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
    """Train with Adam and linear learning rate decay to zero; return the model of the best epoch on `validation`.

    20,000 sentences of SNLI take about a minute on two cores. The caller's random state is left unchanged.

    real: real text whose word frequencies define the clusters of the adaptive softmax. Cluster by real-text frequency
        even for a model of samples: by sample frequency, words never sampled would get almost no probability, which
        inflates the reverse perplexity.
    seen: approximate number of training sentences in total, which determines the number of epochs.
    progress: called after each epoch with the epoch (from 1), the number of epochs and the validation perplexity.

    Raise ValueError if either split is empty, or if the validation perplexity is never finite.
    """
    if not len(train) or not len(validation):
        raise ValueError("training a language model needs training and validation sentences, got an empty split")
    device, size = torch.device(device), min(BATCH, len(train))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        counts = np.bincount(real.ids, minlength=spec.vocabulary)
        counts[spec.end] += len(real)
        model = LanguageModel(spec, units, counts).to(device)
        optimizer = torch.optim.Adam(model.parameters(), RATE, fused=True)
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(seen / len(train))))
        batches = math.ceil(len(train) / size)
        best, best_epoch, weights = math.inf, -1, None
        for epoch in range(epochs):
            if epoch - best_epoch > PATIENCE:
                break
            order = grouped_order(train.lengths, len(train), size, (seed, epoch))
            rates = [RATE * (1 - (epoch * batches + i) / (epochs * batches)) for i in range(batches)]
            _train_epoch(model, optimizer, train, order, rates)
            current = perplexity(model, validation)
            progress(epoch + 1, epochs, current)
            if current < best:
                best, best_epoch, weights = current, epoch, copy.deepcopy(model.state_dict())
    if weights is None:
        raise ValueError("training of the language model diverged: its validation perplexity was never finite")
    model.load_state_dict(weights)
    return model


def _train_epoch(
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    train: TokenStore,
    order: NDArray[np.int64],
    rates: Sequence[float],
) -> None:
    """Train on the batches order[n, B] of an epoch with the learning rates[n]."""
    model.train()
    for rows, rate in zip(order, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = make_batch(train, rows, model.spec, model.by_frequency.device)
        assert isinstance(batch, TextBatch)
        nll, count = model.nll(batch)
        optimizer.zero_grad()
        (nll / count).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()


@torch.no_grad()
def perplexity(model: LanguageModel, store: TokenStore) -> float:
    """Return exp of the mean negative log-likelihood per token, end marks included; at most e^700.

    Raise ValueError if the store is empty.
    """
    if not len(store):
        raise ValueError("perplexity needs at least one sentence, got none")
    model.eval()
    total, count = 0.0, 0
    for batch in _batches(model, store):
        nll, tokens = model.nll(batch)
        total, count = total + float(nll), count + tokens
    return math.exp(min(total / count, 700.0))


@torch.no_grad()
def sentence_features(model: LanguageModel, store: TokenStore) -> NDArray[np.float64]:
    """Return the mean hidden state of each sentence (start mark and words), float64[N, H], in store order."""
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
    """Return the squared Frechet distance of Gaussians fitted to the features first[N, H] and second[M, H].

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2)

    m are the means and S the unbiased sample covariances (Heusel et al. 2017, eq. 6). Raise ValueError if either set
    has fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("the Frechet distance needs at least two sentences in each set")
    s1, s2 = np.atleast_2d(np.cov(first, rowvar=False)), np.atleast_2d(np.cov(second, rowvar=False))
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    # tr (S1 S2)^1/2 = tr (R S2 R)^1/2 with R = S1^1/2, and R S2 R is symmetric
    cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ s2 @ root), 0, None)).sum()
    difference = first.mean(0) - second.mean(0)
    return max(0.0, float(difference @ difference + np.trace(s1) + np.trace(s2) - 2 * cross))


def _batches(model: LanguageModel, store: TokenStore) -> "list[TextBatch]":
    """Return all sentences of the store in batches, sorted by length."""
    device = model.by_frequency.device
    order = np.argsort(store.lengths, kind="stable")
    batches = []
    for first in range(0, len(order), 256):
        batch = make_batch(store, order[first : first + 256], model.spec, device)
        assert isinstance(batch, TextBatch)
        batches.append(batch)
    return batches
