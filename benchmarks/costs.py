"""Floating-point operations and bytes of an iteration, by part, computed from its settings.

Operations: matrix products, a multiply-add as two operations. Training a product takes three products, with the
gradients of its weights and of its input. Bytes: every product reads its matrices and writes its result once, and so do
the loss of the logits, word vectors and updates; other arithmetic could be fused with these. Padding is not counted.
Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.settings import Settings

BYTES = {"float32": 4, "bfloat16": 2, "float64": 8}
"""Bytes of a number in each precision."""
ADAM, SGD, GRADIENT_CLIP = 7, 3, 3
"""Numbers read and written per parameter: p, g, m, v and p, m, v again; p, g and p again; g twice and g again."""
WEIGHT_CLIP, MOVING_AVERAGE = 2, 3


@dataclass(frozen=True)
class Cost:
    """Floating-point operations, and bytes read and written."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    def __rmul__(self, times: float) -> "Cost":
        return Cost(times * self.flops, times * self.bytes)


@dataclass(frozen=True)
class Part:
    """A part of an iteration. within: the one of `parts.PARTS` that its time is charged to."""

    name: str
    within: str
    cost: Cost
    precision: str


def product(rows: float, inputs: int, outputs: int, times: int, size: int) -> Cost:
    """Return the cost of `times` products like [rows, inputs] x [inputs, outputs] with a bias.

    size: bytes of an activation; weights and their gradients have 4 or more.
    """
    moved = size * rows * (inputs + outputs) + max(4, size) * (inputs + 1) * outputs
    return times * Cost(2 * rows * inputs * outputs, moved)


def lstm(inputs: int, hidden: Sequence[int], tokens: float, times: int, size: int) -> Cost:
    """Return the cost of LSTM layers: input and previous state of each token, times the weights of four gates."""
    return sum((product(tokens, i + h, 4 * h, times, size) for i, h in pairwise((inputs, *hidden))), Cost())


def mlp(widths: Sequence[int], rows: float, times: int, size: int, first: int | None = None) -> Cost:
    """Return the cost of linear maps widths[0] -> ... -> widths[-1].

    first: products of the first map, if not `times`; its input often needs no gradient.
    """
    counts = [times if first is None else first] + [times] * (len(widths) - 2)
    return sum((product(rows, i, o, n, size) for (i, o), n in zip(pairwise(widths), counts, strict=True)), Cost())


def learns_generator(settings: Settings) -> bool:
    """Return True if the prior is a trained generator."""
    return settings.adversarial and settings.chosen("prior.kind")[0] == "generator"


def parameters(settings: Settings, spec: DataSpec) -> dict[str, int]:
    """Return the number of parameters of each part of a model without classes."""
    e, d, g, f, code = settings.encoder, settings.decoder, settings.generator, settings.critic, settings.code.size

    def recurrent(inputs: int, hidden: Sequence[int]) -> int:
        return sum(4 * h * (i + h + 2) for i, h in pairwise((inputs, *hidden)))

    def linear(widths: Sequence[int], normalized: Sequence[int] = ()) -> int:
        return sum((i + 1) * o for i, o in pairwise(widths)) + 2 * sum(normalized)

    def normalized(part: Any, skipped: int = 0) -> Sequence[int]:
        return part.hidden[skipped:] if part.normalization != "none" else ()

    if isinstance(spec, TextSpec):
        to_code = 0 if e.hidden[-1] == code else linear((e.hidden[-1], code))
        encoder = spec.vocabulary * e.embedding + recurrent(e.embedding, e.hidden) + to_code
        decoder = spec.vocabulary * d.embedding + recurrent(d.embedding + code, d.hidden)
        decoder += linear((d.hidden[-1], spec.vocabulary))
    else:
        pixels = spec.height * spec.width
        encoder = linear((pixels, *e.hidden, code), normalized(e))
        decoder = linear((code, *d.hidden, pixels * d.logits_per_pixel), normalized(d))
    counts = {"encoder": encoder, "decoder": decoder}
    if learns_generator(settings):
        counts["generator"] = linear((g.noise_size, *g.hidden, code), normalized(g))
    if settings.adversarial:
        counts["critic"] = linear((code, *f.hidden, 1), normalized(f, 1))
    return counts


def iteration_parts(settings: Settings, spec: DataSpec, length: float = 0, device: str = "cpu") -> list[Part]:
    """Return the parts of an iteration of Algorithm 1.

    settings: with a precision other than auto. length: mean tokens per sentence, end mark included (text only).
    """
    assert not (isinstance(spec, TextSpec) and spec.classes), "Algorithm 2 is not supported"
    iteration = _Iteration(settings, spec, length, device)
    adversarial = iteration.adversarial() if settings.adversarial else []
    return [*iteration.reconstruction(), *adversarial, iteration.updates()]


class _Iteration:
    """Costs of one iteration. Arguments as for `iteration_parts`."""

    def __init__(self, settings: Settings, spec: DataSpec, length: float, device: str) -> None:
        self.settings, self.spec = settings, spec
        self.tokens = settings.batch_size * length
        self.rounds = settings.critic.steps if settings.encoder.adversarial_each_critic_step else 1
        self.autoencoder = settings.precision
        self.rest = "float64" if settings.precision == "float64" else "float32"
        # On a GPU, autocast leaves LSTMs in float32.
        self.recurrent = self.rest if device == "cuda" and isinstance(spec, TextSpec) else self.autoencoder

    def encodings(self, times: int) -> Cost:
        """A batch through the encoder."""
        e, m, code, size = self.settings.encoder, self.settings.batch_size, self.settings.code.size, self.autoencoder
        if isinstance(self.spec, ImageSpec):
            widths = (self.spec.height * self.spec.width, *e.hidden, code)
            return mlp(widths, m, times, BYTES[size], first=min(times, 2))
        to_code = Cost() if e.hidden[-1] == code else product(m, e.hidden[-1], code, times, BYTES[size])
        return lstm(e.embedding, e.hidden, self.tokens, times, BYTES[self.recurrent]) + to_code

    def words(self, width: int, trained: bool) -> Cost:
        """Word vectors: read and written; if trained, their gradients are read and that of the table is written."""
        assert isinstance(self.spec, TextSpec)
        numbers = width * (2 * self.tokens + trained * (self.tokens + self.spec.vocabulary))
        return Cost(0, BYTES[self.rest] * numbers)

    def reconstruction(self) -> list[Part]:
        """Step (1), without its update."""
        e, d, code, size = (
            self.settings.encoder,
            self.settings.decoder,
            self.settings.code.size,
            BYTES[self.autoencoder],
        )
        if isinstance(self.spec, ImageSpec):
            m, outputs = self.settings.batch_size, self.spec.height * self.spec.width * d.logits_per_pixel
            pixels = mlp((code, *d.hidden, outputs), m, 3, size) + Cost(0, 3 * size * m * outputs)
            costs = [("decoder", pixels, self.autoencoder), ("encoder", self.encodings(3), self.autoencoder)]
        else:
            logits = Cost(0, 3 * size * self.tokens * self.spec.vocabulary)
            output = product(self.tokens, d.hidden[-1], self.spec.vocabulary, 3, size) + logits
            states = lstm(d.embedding + code, d.hidden, self.tokens, 3, BYTES[self.recurrent])
            costs = [
                ("vocabulary projection", output, self.autoencoder),
                ("decoder LSTM", states, self.recurrent),
                ("encoder LSTM", self.encodings(3), self.recurrent),
                ("embeddings", self.words(e.embedding, True) + self.words(d.embedding, True), self.rest),
            ]
        return [Part(name, "reconstruct", cost, precision) for name, cost, precision in costs]

    def adversarial(self) -> list[Part]:
        """Steps (2) and (3), without their updates."""
        s, m, k = self.settings, self.settings.batch_size, self.settings.critic.steps
        size, rounds, learned = BYTES[self.rest], self.rounds, learns_generator(self.settings)
        generator = (s.generator.noise_size, *s.generator.hidden, s.code.size)
        score_gradient = mlp((s.code.size, *s.critic.hidden, 1), m, 2, size)
        fakes = mlp(generator, k * m, 1, size) if learned else Cost()
        generator_step = mlp(generator, m, 3, size, first=2) + score_gradient if learned else Cost()
        parts = [Part("encodings for the critic", "encode", k * self.encodings(1), self.recurrent)]
        if isinstance(self.spec, TextSpec):
            width = s.encoder.embedding
            parts += [Part("embeddings", "encode", k * self.words(width, False), self.rest)]
            parts += [Part("embeddings", "confuse", rounds * self.words(width, True), self.rest)]
        return [
            *parts,
            Part(
                "encoder against the critic", "confuse", rounds * (self.encodings(3) + score_gradient), self.recurrent
            ),
            Part("generator against the critic", "confuse", generator_step, self.rest),
            Part("generated codes", "critic steps", fakes, self.rest),
            Part("critic", "critic steps", k * self._critic_step(), self.rest),
        ]

    def _critic_step(self) -> Cost:
        f, m, size = self.settings.critic, self.settings.batch_size, BYTES[self.rest]
        widths = (self.settings.code.size, *f.hidden, 1)
        cost = mlp(widths, 2 * m, 3, size, first=2)
        if f.objective == "wgan-gp":  # forward, the gradient of the code, and the gradients of its two factors
            cost += mlp(widths, m, 4, size)
            if f.normalization == "layer" and len(f.hidden) > 1:  # its second derivative is not 0, as LeakyReLU's is
                cost += mlp(widths[:-1], m, 2, size, first=1)
        return cost

    def updates(self) -> Part:
        """Bytes of clipping, optimizers, weight clipping and the moving average."""
        s = self.settings
        separate = self.rounds if s.adversarial and s.encoder.updates == "each" else 0
        updates = {"encoder": 1 + separate, "decoder": 1, "generator": 1, "critic": s.critic.steps}
        numbers = 0
        for part, count in parameters(s, self.spec).items():
            each = ADAM if getattr(s, part).optimizer == "adam" else SGD
            each += GRADIENT_CLIP if part in ("encoder", "decoder") and s.gradient_clip else 0
            each += WEIGHT_CLIP if part == "critic" and s.critic.objective == "wgan-clip" else 0
            each += MOVING_AVERAGE if part == "generator" and s.generator.average else 0
            numbers += updates[part] * each * count
        return Part("updates", "optimizer", Cost(0, BYTES[self.rest] * numbers), self.rest)
