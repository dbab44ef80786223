"""The settings of each part of the model. Imports no torch. `declaration.py` lists what is declared at a field."""

from dataclasses import dataclass
from typing import Any, ClassVar

from arae_core.codecs import CODECS
from arae_core.codes import CODES
from arae_core.objectives import OBJECTIVES
from arae_core.priors import PRIORS
from arae_core.settings.bounds import Bound, above, at_least, between, half_open, one_of, widths
from arae_core.settings.conditions import all_of, any_of, differs, equals, names_of, reads, sibling, value_of
from arae_core.settings.declaration import Condition, Section, setting

KINDS = ("text", "image")
TOKENIZERS = ("words", "spaces", "bpe")
"""Tokenizers that are trained on the training text."""
NORMALIZED = ("encoder", "decoder", "generator", "critic", "classifier")
"""Sections that have a `normalization`."""
MOST_CONTRAST = 1e6
"""Largest contrast: beyond it, float32 cannot tell 1 + contrast from contrast."""

TEXT = equals("kind", "text")


def _has_classes(settings: Any, _: str) -> str:
    return str(settings.without_classes)


LABELLED = all_of(TEXT, Condition(_has_classes, lambda _: "the data has labels"))
DRAWS_SAMPLES = Condition(lambda settings, _: str(settings.without_samples), lambda _: "samples are drawn")
HIDDEN = all_of(LABELLED, differs("encoder.attribute_weight", 0.0))
ALIGNED = all_of(LABELLED, differs("decoder.alignment_weight", 0.0))
"""Conditions of Algorithm 2: labelled text; its adversary, step (3b); cross-alignment."""


def _normalizes(settings: Any, name: str) -> str:
    part = name.partition(".")[0]
    hidden = value_of(settings, f"{part}.hidden")
    first = 0 if part == "generator" else 1
    return "" if len(hidden) > first else f"{part}.hidden is {'one layer' if hidden else 'empty'}"


HAS_LAYERS = Condition(_normalizes, lambda _: "there is a hidden layer to normalize")


def learning_rate(default: float) -> Any:
    """Declare a learning rate."""
    return setting(default, above(0.0), mutable=True)


def normalization(default: str, when: Condition = HAS_LAYERS) -> Any:
    """Declare the normalization of a section's hidden layers."""
    return setting(default, one_of("none", "layer", "batch"), structural=True, when=when)


@dataclass(frozen=True, kw_only=True)
class VocabularySettings(Section):
    """Text to ids and back. Not used for images."""

    prefix: ClassVar[str] = "vocabulary."
    tokenizer: str = setting("words", Bound(bool, "words, spaces, bpe, a path or a name"))
    """words (words and runs of punctuation), spaces (the text is tokenized already), bpe, or a pretrained tokenizer:
    the path of a tokenizer.json, a folder with one, or a name on the hub."""
    size: int = setting(11_000, at_least(6), when=equals("vocabulary.tokenizer", *TOKENIZERS))
    """Largest number of entries in a vocabulary built from the training text, its four special tokens included. A bpe
    vocabulary also has an entry for every byte that occurs."""
    lowercase: bool = setting(True, when=equals("vocabulary.tokenizer", *TOKENIZERS))
    """Lower-case all text. A pretrained tokenizer does as it was trained to."""


@dataclass(frozen=True, kw_only=True)
class TrainedSection(Section):
    """A part of the model that is trained, with an optimizer of its own."""

    optimizer: str = setting("adam", one_of("adam", "sgd"))
    """adam or sgd."""
    learning_rate: float = learning_rate(1e-3)
    """Learning rate."""
    beta1: float = setting(0.9, half_open(0.0, 1.0), mutable=True, when=sibling("optimizer", "adam"))
    """Adam's decay of the first moment."""
    beta2: float = setting(0.999, half_open(0.0, 1.0), mutable=True, when=sibling("optimizer", "adam"))
    """Adam's decay of the second moment."""
    weight_decay: float = setting(0.0, at_least(0.0), mutable=True)
    """Decoupled weight decay (Loshchilov and Hutter 2019): an update takes this share, times the learning rate, off
    each weight."""


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(TrainedSection):
    """The encoder enc_phi: x -> c."""

    prefix: ClassVar[str] = "encoder."
    kind: str = setting("auto", names_of(CODECS, "auto"), structural=True)
    """Architecture: lstm (text), mlp (images), or auto, the usual one for the kind of data."""
    embedding: int = setting(300, at_least(1), structural=True, when=reads(CODECS, "encoder.kind"))
    """Size of the word vectors."""
    hidden: tuple[int, ...] = setting((300,), widths(1), structural=True)
    """Widths of the hidden layers. The layers of an LSTM all have one width."""
    pooling: str = setting("last", one_of("last", "mean", "max"), structural=True, when=reads(CODECS, "encoder.kind"))
    """State of the LSTM that becomes the code: last (as published), or the mean or max over the sentence."""
    word_dropout: float = setting(0.0, half_open(0.0, 1.0), mutable=True, when=TEXT)
    """Share of the input words that are replaced by the unknown token, in step (1) only: a denoising autoencoder."""
    marker_ratio: float = setting(
        0.0,
        Bound(lambda ratio: ratio == 0 or 1 < ratio < float("inf"), "0 (none) or > 1 and finite"),
        structural=True,
        when=all_of(LABELLED, reads(CODECS, "encoder.kind")),
    )
    """Hide attribute markers from the encoder: words at least this many times as frequent in one class as in the others
    (Li et al. 2018). 0: hide none."""
    normalization: str = normalization("none", reads(CODECS, "encoder.kind"))
    """none, layer or batch normalization after each hidden layer."""
    adversarial_weight: float = setting(1.0, at_least(0.0), mutable=True, when=reads(OBJECTIVES, "critic.objective"))
    """lambda_1: weight of the critic's gradient into the encoder in step (3)."""
    adversarial_each_critic_step: bool = setting(
        False,
        when=all_of(reads(OBJECTIVES, "critic.objective", "critic"), differs("encoder.adversarial_weight", 0.0)),
    )
    """Take the encoder's part of step (3) after each of the k critic steps, as the released code for images does."""
    updates: str = setting(
        "each",
        one_of("each", "summed"),
        when=any_of(reads(OBJECTIVES, "critic.objective", "encoder.adversarial_weight"), HIDDEN, ALIGNED),
    )
    """each: steps (1), (3) and (3b) each update the encoder, as published. summed: one update by the sum of their
    gradients; under Adam, lambda_1 and lambda_2 have an effect only so."""
    attribute_weight: float = setting(1.0, at_least(0.0), mutable=True, when=LABELLED)
    """lambda_2: weight of the attribute classifier's gradient into the encoder in step (3b). 0: no steps (2b), (3b)."""
    learning_rate: float = learning_rate(1e-3)
    """Learning rate in steps (1), (3), (3b) and in cross-alignment."""


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(TrainedSection):
    """The decoder p_psi(x | c)."""

    prefix: ClassVar[str] = "decoder."
    kind: str = setting("auto", names_of(CODECS, "auto"), structural=True)
    """Architecture: lstm (text; reads the code at every step), mlp (images), or auto, the usual one for the data."""
    embedding: int = setting(300, at_least(1), structural=True, when=reads(CODECS, "decoder.kind"))
    """Size of the decoder's own word vectors."""
    hidden: tuple[int, ...] = setting((300,), widths(1), structural=True)
    """Widths of the hidden layers. The layers of an LSTM all have one width."""
    word_dropout: float = setting(0.0, half_open(0.0, 1.0), mutable=True, when=TEXT)
    """Share of the decoder's input words that are replaced by the unknown token in training."""
    normalization: str = normalization("none", reads(CODECS, "decoder.kind"))
    """none, layer or batch normalization after each hidden layer."""
    conditioning: str = setting(
        "embedding",
        one_of("embedding", "separate"),
        structural=True,
        when=all_of(LABELLED, reads(CODECS, "decoder.kind")),
    )
    """How the decoder gets the attribute: embedding (a vector fed beside the code) or separate (a decoder for each
    class with a shared output layer, as released)."""
    attribute_embedding: int = setting(
        64,
        at_least(1),
        structural=True,
        when=all_of(LABELLED, reads(CODECS, "decoder.kind"), equals("decoder.conditioning", "embedding")),
    )
    """Size of that vector."""
    contrast: float = setting(0.0, between(0.0, MOST_CONTRAST), when=LABELLED)
    """Penalty, in transfer only, on words that the other classes also predict. 0: none."""
    alignment_weight: float = setting(0.0, at_least(0.0), when=all_of(LABELLED, reads(CODECS, "decoder.kind")))
    """Weight of cross-alignment (Shen et al. 2017): free-running states of transferred sentences should match
    teacher-forced states of real sentences of the target class. 0: none. Needs conditioning embedding and an LSTM."""
    logits_per_pixel: int = setting(
        1, Bound(lambda count: count in (1, 2), "1 or 2"), structural=True, when=reads(CODECS, "decoder.kind")
    )
    """1: the logit of a white pixel. 2: one logit for black and one for white, as published."""
    learning_rate: float = learning_rate(1e-3)
    """Learning rate in step (1) and in cross-alignment."""


@dataclass(frozen=True, kw_only=True)
class CodeSettings(Section):
    """The code c, between encoder and decoder."""

    prefix: ClassVar[str] = "code."
    kind: str = setting("sphere", names_of(CODES), structural=True)
    """sphere (codes have length 1) or euclidean (unbounded)."""
    size: int = setting(300, at_least(1), structural=True)
    """Numbers in a code. Where it is not the encoder's last width, a linear map follows the encoder."""
    noise: float = setting(0.1, at_least(0.0), mutable=True)
    """Standard deviation of the Gaussian noise on each number of the code in step (1)."""
    noise_decay: float = setting(
        1.0, Bound(lambda decay: 0.0 < decay <= 1.0, "in (0, 1]"), mutable=True, when=differs("code.noise", 0.0)
    )
    """Factor on the noise every 100 iterations. Published runs whose noise vanished got worse; 1 keeps it."""


@dataclass(frozen=True, kw_only=True)
class PriorSettings(Section):
    """The distribution that codes of samples come from."""

    prefix: ClassVar[str] = "prior."
    kind: str = setting("auto", names_of(PRIORS, "auto"), structural=True)
    """generator (learned: ARAE), gaussian (fixed: the adversarial autoencoder), fitted-gaussian (fitted to the codes of
    training data), or auto: generator where the objective trains one, else fitted-gaussian."""


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings(TrainedSection):
    """The generator g_theta: z -> c~."""

    prefix: ClassVar[str] = "generator."
    noise_size: int = setting(100, at_least(1), structural=True)
    """Numbers in z."""
    hidden: tuple[int, ...] = setting((300, 300), widths(), structural=True)
    """Widths of the hidden layers."""
    normalization: str = normalization("layer")
    """none, layer or batch normalization after each hidden layer."""
    output: str = setting("sphere", one_of("linear", "tanh", "sphere"))
    """linear, tanh, or sphere (scaled to length 1, as code.kind sphere)."""
    average: float = setting(0.0, half_open(0.0, 1.0), mutable=True)
    """Decay of the moving average of the weights, from which samples are drawn. 0: no average."""
    learning_rate: float = learning_rate(1e-4)
    """Learning rate in step (3)."""
    beta1: float = setting(0.5, half_open(0.0, 1.0), mutable=True, when=sibling("optimizer", "adam"))
    """Adam's decay of the first moment."""


@dataclass(frozen=True, kw_only=True)
class CriticSettings(TrainedSection):
    """The critic f_w: c -> one score a sample, and its objective."""

    prefix: ClassVar[str] = "critic."
    objective: str = setting("wgan-gp", names_of(OBJECTIVES))
    """How codes are compared with the prior's: wgan-gp (gradient penalty), wgan-clip (clipped weights), or none (plain
    autoencoder)."""
    steps: int = setting(5, at_least(1), mutable=True)
    """k: critic steps in an iteration, on fresh batches."""
    penalty: float = setting(1.0, at_least(0.0), mutable=True, when=reads(OBJECTIVES, "critic.objective"))
    """Weight of the gradient penalty."""
    clip: float = setting(0.01, above(0.0), mutable=True, when=reads(OBJECTIVES, "critic.objective"))
    """eps: every weight is clipped to [-eps, eps]."""
    hidden: tuple[int, ...] = setting((300, 300), widths(), structural=True)
    """Widths of the hidden layers."""
    normalization: str = normalization("layer")
    """none, layer or batch normalization after each hidden layer but the first. wgan-gp does not allow batch."""
    learning_rate: float = learning_rate(1e-4)
    """Learning rate in step (2)."""
    beta1: float = setting(0.5, half_open(0.0, 1.0), mutable=True, when=sibling("optimizer", "adam"))
    """Adam's decay of the first moment."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(TrainedSection):
    """The attribute classifier p_u of Algorithm 2: c -> a probability of each class. Only with labelled data."""

    prefix: ClassVar[str] = "classifier."
    hidden: tuple[int, ...] = setting((300,), widths(), structural=True, when=HIDDEN)
    """Widths of the hidden layers."""
    normalization: str = normalization("none", all_of(HIDDEN, HAS_LAYERS))
    """none, layer or batch normalization after each hidden layer but the first."""
    learning_rate: float = learning_rate(1e-3)
    """Learning rate in step (2b), and of cross-alignment's discriminators."""


@dataclass(frozen=True, kw_only=True)
class HeadSettings(TrainedSection):
    """The classifier with few labels, p(y | codes of an example's sentences). Only in classify.py."""

    prefix: ClassVar[str] = "head."
    hidden: tuple[int, ...] = setting((300,), widths())
    """Widths of the hidden layers."""
    dropout: float = setting(0.2, half_open(0.0, 1.0))
    """Share of the features, and of each hidden layer, that is set to 0 in training."""
    batch_size: int = setting(64, at_least(1))
    """Labelled examples in a step."""
    start: float = setting(0.0, half_open(0.0, 1.0))
    """Share of the iterations in which the autoencoder is trained alone, before the supervised steps begin."""
    joint: bool = setting(True)
    """Train the autoencoder beside the supervised steps. false: these only fine-tune the encoder."""
    learning_rate: float = learning_rate(1e-3)
    """Learning rate of the supervised step, which updates the head and the encoder."""
