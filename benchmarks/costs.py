"""What an iteration costs in operations and bytes, by part, counted from its settings.

Counted, a multiply-add as two operations: the products of matrices. A product that is trained is three, with the
gradients of its weights and of what it was fed. Bytes: every product reads its matrices and writes its result once, and
so do the loss of the logits, word vectors and updates; other arithmetic could hide behind these. Padding is not
counted. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from arae_core.data.data_spec import DataSpec, ImageSpec, TextSpec
from arae_core.settings import Settings

SIZES = {"float32": 4, "bfloat16": 2, "float64": 8}
ADAM, SGD, CLIPPED = 7, 3, 3
"""Numbers read and written of each parameter: p, g, m, v and back p, m, v; p, g and back p; g twice and back once."""


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
    """A part of an iteration, and the one of `parts.PARTS` that its time counts for."""

    name: str
    within: str
    cost: Cost
    precision: str


def product(rows: float, inputs: int, outputs: int, times: int, size: int) -> Cost:
    """[rows, inputs] x [inputs, outputs] with a bias, and as many of its gradients as make `times` products.

    size: bytes of an activation; weights and their gradients have 4 or more.
    """
    moved = size * rows * (inputs + outputs) + max(4, size) * (inputs + 1) * outputs
    return times * Cost(2 * rows * inputs * outputs, moved)


def lstm(inputs: int, hidden: Sequence[int], tokens: float, times: int, size: int) -> Cost:
    """Layers of an LSTM over so many tokens: what is read and the state before it, times the weights of four gates."""
    return sum((product(tokens, i + h, 4 * h, times, size) for i, h in pairwise((inputs, *hidden))), Cost())


def mlp(widths: Sequence[int], rows: float, times: int, size: int, first: int | None = None) -> Cost:
    """Linear maps widths[0] -> ... -> widths[-1]. first: products of the first one, where nothing asks for the gradient
    of what it was fed."""
    counts = [times if first is None else first] + [times] * (len(widths) - 2)
    return sum((product(rows, i, o, n, size) for (i, o), n in zip(pairwise(widths), counts, strict=True)), Cost())


def parameters(settings: Settings, spec: DataSpec) -> dict[str, int]:
    """Numbers that each part has, of a model without classes."""
    e, d, g, f, code = settings.encoder, settings.decoder, settings.generator, settings.critic, settings.code.size

    def recurrent(inputs: int, hidden: Sequence[int]) -> int:
        return sum(4 * h * (i + h + 2) for i, h in pairwise((inputs, *hidden)))

    def layered(widths: Sequence[int], normalized: Sequence[int] = ()) -> int:
        return sum((i + 1) * o for i, o in pairwise(widths)) + 2 * sum(normalized)

    def hidden(part: Any, skipped: int = 0) -> Sequence[int]:
        return part.hidden[skipped:] if part.normalization != "none" else ()

    if isinstance(spec, TextSpec):
        to_code = 0 if e.hidden[-1] == code else layered((e.hidden[-1], code))
        encoder = spec.vocabulary * e.embedding + recurrent(e.embedding, e.hidden) + to_code
        decoder = spec.vocabulary * d.embedding + recurrent(d.embedding + code, d.hidden)
        decoder += layered((d.hidden[-1], spec.vocabulary))
    else:
        pixels = spec.height * spec.width
        encoder = layered((pixels, *e.hidden, code), hidden(e))
        decoder = layered((code, *d.hidden, pixels * d.logits_per_pixel), hidden(d))
    generator = layered((g.noise_size, *g.hidden, code), hidden(g)) if g.kind == "mlp" else 0
    return {
        "encoder": encoder,
        "decoder": decoder,
        **(
            {"generator": generator, "critic": layered((code, *f.hidden, 1), hidden(f, 1))}
            if settings.adversarial
            else {}
        ),
    }


def iteration_parts(settings: Settings, spec: DataSpec, length: float = 0, device: str = "cpu") -> list[Part]:
    """What an iteration of Algorithm 1 computes and moves, in a precision that is named: `auto` is none. length: mean
    tokens a sentence, end mark counted (text)."""
    assert not (isinstance(spec, TextSpec) and spec.classes), "Algorithm 2 is not counted"
    s, e, d, f = settings, settings.encoder, settings.decoder, settings.critic
    m, k, code = s.batch_size, f.steps, s.code.size
    rounds = k if e.adversarial_each_critic_step else 1
    tokens = m * length
    own, rest = s.precision, "float64" if s.precision == "float64" else "float32"
    recurrent = rest if device == "cuda" else own  # autocast leaves LSTMs on a GPU in float32
    size, word = SIZES[own], SIZES[rest]

    def encodings(times: int) -> Cost:
        """m examples through the encoder."""
        if isinstance(spec, ImageSpec):
            return mlp((spec.height * spec.width, *e.hidden, code), m, times, size, first=min(times, 2))
        to_code = Cost() if e.hidden[-1] == code else product(m, e.hidden[-1], code, times, size)
        return lstm(e.embedding, e.hidden, tokens, times, SIZES[recurrent]) + to_code

    def words(width: int, trained: bool) -> Cost:
        """Word vectors: read and written; their gradients read, the table's written as a whole."""
        assert isinstance(spec, TextSpec)
        return Cost(0, word * width * (2 * tokens + trained * (tokens + spec.vocabulary)))

    parts = []
    if isinstance(spec, TextSpec):
        logits = tokens * spec.vocabulary
        output = product(tokens, d.hidden[-1], spec.vocabulary, 3, size) + Cost(0, 3 * size * logits)
        states = lstm(d.embedding + code, d.hidden, tokens, 3, SIZES[recurrent])
        vectors = words(e.embedding, True) + words(d.embedding, True)
        parts += [
            Part("vocabulary projection", "reconstruct", output, own),
            Part("decoder LSTM", "reconstruct", states, recurrent),
            Part("encoder LSTM", "reconstruct", encodings(3), recurrent),
            Part("embeddings", "reconstruct", vectors, rest),
        ]
    else:
        outputs = spec.height * spec.width * d.logits_per_pixel
        pixels = mlp((code, *d.hidden, outputs), m, 3, size) + Cost(0, 3 * size * m * outputs)
        parts += [Part("decoder", "reconstruct", pixels, own), Part("encoder", "reconstruct", encodings(3), own)]
        recurrent = own
    if s.adversarial:
        judged, made = (code, *f.hidden, 1), (s.generator.noise_size, *s.generator.hidden, code)
        learned = s.generator.kind == "mlp"
        step = mlp(judged, 2 * m, 3, word, first=2)
        if f.objective == "wgan-gp":  # forward, gradient of the code, and of that one's two factors
            step += mlp(judged, m, 4, word)
            if f.normalization == "layer" and len(f.hidden) > 1:  # whose own derivative is not 0, as LeakyReLU's is
                step += mlp(judged[:-1], m, 2, word, first=1)
        asked = mlp(judged, m, 2, word)
        fakes = mlp(made, k * m, 1, word) if learned else Cost()
        answered = mlp(made, m, 3, word, first=2) + asked if learned else Cost()
        parts += [Part("encodings for the critic", "encode", k * encodings(1), recurrent)]
        if isinstance(spec, TextSpec):
            parts += [Part("embeddings", "encode", k * words(e.embedding, False), rest)]
            parts += [Part("embeddings", "confuse", rounds * words(e.embedding, True), rest)]
        parts += [
            Part("encoder against the critic", "confuse", rounds * (encodings(3) + asked), recurrent),
            Part("generator against the critic", "confuse", answered, rest),
            Part("generated codes", "critic steps", fakes, rest),
            Part("critic", "critic steps", k * step, rest),
        ]
    return [*parts, Part("updates", "optimizer", _updates(s, spec, rounds, word), rest)]


def _updates(settings: Settings, spec: DataSpec, rounds: int, word: int) -> Cost:
    """Clipping, optimizers, clamping and the moving average, in bytes."""
    alone = rounds if settings.adversarial and settings.encoder.updates == "each" else 0
    updates = {"encoder": 1 + alone, "decoder": 1, "generator": 1, "critic": settings.critic.steps}
    numbers = 0
    for part, count in parameters(settings, spec).items():
        each = ADAM if getattr(settings, part).optimizer == "adam" else SGD
        each += CLIPPED if part in ("encoder", "decoder") and settings.gradient_clip else 0
        each += 2 if part == "critic" and settings.critic.objective == "wgan-clip" else 0
        each += 3 if part == "generator" and settings.generator.average else 0
        numbers += updates[part] * each * count
    return Cost(0, word * numbers)
