"""What can be set in the core: frozen dataclasses, checked when they are made. Imports no torch.

A setting has one dotted name, its place in this tree: `Settings(critic=CriticSettings(steps=5))` is
`critic.steps`, which is also the command line's flag, the key of a search space, the MLflow parameter and the name in
an error message.
"""

from dataclasses import dataclass, field

from arae_core.settings.checks import above, at_least, between, one_of, require, widths, within

KINDS = ("text", "image")
TOKENIZERS = ("words", "spaces", "bpe")
"""Those that are made of the training text."""
OBJECTIVES = ("wgan-gp", "wgan-clip", "none")
GENERATORS = ("mlp", "gaussian")
NORMALIZATIONS = ("none", "layer", "batch")
NORMALIZED = ("encoder", "decoder", "generator", "critic", "classifier")
"""Parts that have a `normalization`."""
CONDITIONINGS = ("embedding", "separate")
OPTIMIZERS = ("adam", "sgd")
OUTPUTS = ("linear", "tanh", "sphere")
INITIALIZATIONS = ("default", "remembering", "released")
POOLINGS = ("last", "mean", "max")
UPDATES = ("each", "summed")
CUDA_GRAPHS = ("auto", "off")
PRECISIONS = ("auto", "float32", "bfloat16", "float64")
MOST_CONTRAST = 1e6
"""Where float32 no longer tells 1 + contrast from contrast; far beyond it, nothing is finite."""


@dataclass(frozen=True, kw_only=True)
class VocabularySettings:
    """Text <-> ids. Ignored for images."""

    tokenizer: str = "words"
    """words (words and runs of punctuation), spaces (the text is tokenised already), bpe, or a pretrained tokenizer:
    the path of a tokenizer.json, a folder with one, or a name on the hub."""
    size: int = 11_000
    """The most entries a vocabulary built from the training text may have, its four marks included. With bpe it
    has one for every byte of that text at least."""
    lowercase: bool = True
    """Lower-case all text (words, spaces and bpe; a pretrained tokenizer keeps its own way)."""

    def __post_init__(self) -> None:
        require(bool(self.tokenizer), "vocabulary.tokenizer", self.tokenizer, "words, spaces, bpe, a path or a name")
        at_least("vocabulary.size", self.size, 6)


@dataclass(frozen=True, kw_only=True)
class TrainedSettings:
    """What every trained part has: its own optimizer."""

    optimizer: str = "adam"
    """adam or sgd."""
    learning_rate: float = 1e-3
    """Step size of the part's optimizer."""
    beta1: float = 0.9
    """Adam's decay of the first moment."""
    beta2: float = 0.999
    """Adam's decay of the second moment."""
    weight_decay: float = 0.0
    """Share of each weight, times the rate, that an update takes off it (Loshchilov and Hutter 2019)."""

    def check_optimizer(self, part: str) -> None:
        """Raise ValueError, naming the part, for values out of range."""
        one_of(f"{part}.optimizer", self.optimizer, OPTIMIZERS)
        above(f"{part}.learning_rate", self.learning_rate, 0.0)
        within(f"{part}.beta1", self.beta1, 0.0, 1.0)
        within(f"{part}.beta2", self.beta2, 0.0, 1.0)
        at_least(f"{part}.weight_decay", self.weight_decay, 0.0)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings(TrainedSettings):
    """enc_phi: x -> c. An LSTM for text, an MLP for images."""

    embedding: int = 300
    """Width of the word embedding (text)."""
    hidden: tuple[int, ...] = (300,)
    """Text: the LSTM's layers, all of one width. Images: widths of the MLP's hidden layers."""
    pooling: str = "last"
    """What of the LSTM's states becomes the code: last (as published), mean or max over the sentence (text)."""
    word_dropout: float = 0.0
    """Share of the input words replaced by the unknown mark in step (1) only: a denoising autoencoder (text)."""
    marker_ratio: float = 0.0
    """Attribute markers, words so many times as frequent in one class as in the others, are hidden from the encoder; 0:
    none are. Only with labelled data."""
    normalization: str = "none"
    """none, layer or batch, after each hidden layer (images)."""
    adversarial_weight: float = 1.0
    """lambda_1: multiplies the critic's gradient into the encoder in step (3)."""
    adversarial_each_critic_step: bool = False
    """Take the encoder's part of step (3) after every one of the k critic steps, as the released image code does."""
    updates: str = "each"
    """each: steps (1), (3) and (3b) update the encoder, one after the other, as published. summed: once, by the sum of
    their gradients; under Adam only so do lambda_1 and lambda_2 count."""
    attribute_weight: float = 1.0
    """lambda_2: multiplies the attribute classifier's gradient into the encoder in step (3b); 0: neither (2b) nor (3b).
    Only with labelled data."""
    learning_rate: float = 1e-3
    """Step size of the encoder's optimizer: steps (1), (3), (3b) and cross-alignment."""

    def __post_init__(self) -> None:
        at_least("encoder.embedding", self.embedding, 1)
        widths("encoder.hidden", self.hidden, 1)
        one_of("encoder.pooling", self.pooling, POOLINGS)
        one_of("encoder.updates", self.updates, UPDATES)
        within("encoder.word_dropout", self.word_dropout, 0.0, 1.0)
        at_least("encoder.marker_ratio", self.marker_ratio, 0.0)
        if 0 < self.marker_ratio <= 1:
            raise ValueError(f"encoder.marker_ratio must be 0 (none) or > 1, got {self.marker_ratio}")
        at_least("encoder.adversarial_weight", self.adversarial_weight, 0.0)
        at_least("encoder.attribute_weight", self.attribute_weight, 0.0)
        one_of("encoder.normalization", self.normalization, NORMALIZATIONS)
        self.check_optimizer("encoder")


@dataclass(frozen=True, kw_only=True)
class DecoderSettings(TrainedSettings):
    """p_psi(x | c). An LSTM fed the code at every step for text, an MLP for images."""

    embedding: int = 300
    """Width of the decoder's own word embedding (text)."""
    hidden: tuple[int, ...] = (300,)
    """Text: the LSTM's layers, all of one width. Images: widths of the MLP's hidden layers."""
    word_dropout: float = 0.0
    """Share of the decoder's input words replaced by the unknown mark while training (text)."""
    normalization: str = "none"
    """none, layer or batch, after each hidden layer (images)."""
    conditioning: str = "embedding"
    """How the decoder is told the attribute: embedding (a vector fed beside the code) or separate (a decoder a class,
    with one output layer for all, as released). Only with labelled data."""
    attribute_embedding: int = 64
    """Width of that vector."""
    contrast: float = 0.0
    """How much words that other classes make probable, too, are avoided where a sentence is said again as of a class;
    0: not at all. Training does without. Only with labelled data."""
    alignment_weight: float = 0.0
    """Weight of cross-alignment (Shen et al. 2017): states on its own words as of another class are to look like those
    on that class's sentences; 0: none. Only with labelled data and embedding."""
    logits_per_pixel: int = 1
    """1: the logit of a white pixel. 2: one logit for black and one for white, as published (images)."""
    learning_rate: float = 1e-3
    """Step size of the decoder's optimizer: step (1) and cross-alignment."""

    def __post_init__(self) -> None:
        at_least("decoder.embedding", self.embedding, 1)
        widths("decoder.hidden", self.hidden, 1)
        within("decoder.word_dropout", self.word_dropout, 0.0, 1.0)
        one_of("decoder.conditioning", self.conditioning, CONDITIONINGS)
        between("decoder.contrast", self.contrast, 0.0, MOST_CONTRAST)
        at_least("decoder.alignment_weight", self.alignment_weight, 0.0)
        if self.alignment_weight and self.conditioning != "embedding":
            raise ValueError(
                f"decoder.conditioning must be embedding with a decoder.alignment_weight, got {self.conditioning!r}"
            )
        at_least("decoder.attribute_embedding", self.attribute_embedding, 1)
        require(self.logits_per_pixel in (1, 2), "decoder.logits_per_pixel", self.logits_per_pixel, "1 or 2")
        one_of("decoder.normalization", self.normalization, NORMALIZATIONS)
        self.check_optimizer("decoder")


@dataclass(frozen=True, kw_only=True)
class CodeSettings:
    """c: the space between encoder and decoder."""

    size: int = 300
    """Numbers in a code. Where it is not the encoder's last width, a linear map leads there."""
    unit_sphere: bool = True
    """Scale every code of the encoder to length 1."""
    noise: float = 0.1
    """Standard deviation of the Gaussian noise added to each number of the code in step (1); not scaled again."""
    noise_decay: float = 1.0
    """Factor on the noise every 100 iterations (1: it stays; published runs that let it vanish got worse)."""

    def __post_init__(self) -> None:
        at_least("code.size", self.size, 1)
        at_least("code.noise", self.noise, 0.0)
        require(0.0 < self.noise_decay <= 1.0, "code.noise_decay", self.noise_decay, "in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings(TrainedSettings):
    """g_theta: z -> c~."""

    kind: str = "mlp"
    """mlp: a learned prior (ARAE). gaussian: c~ is the noise itself, of the code's size (AAE)."""
    noise_size: int = 100
    """Numbers in z."""
    hidden: tuple[int, ...] = (300, 300)
    """Widths of the hidden layers."""
    normalization: str = "layer"
    """none, layer or batch, after each hidden layer."""
    output: str = "sphere"
    """linear, tanh, or sphere (scaled to length 1, where the encoder's codes are)."""
    average: float = 0.0
    """Decay of the moving average of the weights that samples are taken from (0: the weights as they are)."""
    learning_rate: float = 1e-4
    """Step size of the generator's optimizer, step (3)."""
    beta1: float = 0.5
    """Adam's decay of the first moment."""

    def __post_init__(self) -> None:
        one_of("generator.kind", self.kind, GENERATORS)
        at_least("generator.noise_size", self.noise_size, 1)
        widths("generator.hidden", self.hidden)
        one_of("generator.normalization", self.normalization, NORMALIZATIONS)
        one_of("generator.output", self.output, OUTPUTS)
        within("generator.average", self.average, 0.0, 1.0)
        self.check_optimizer("generator")


@dataclass(frozen=True, kw_only=True)
class CriticSettings(TrainedSettings):
    """f_w: c -> one score a sample, kept Lipschitz by a penalty or by clipping."""

    objective: str = "wgan-gp"
    """wgan-gp (gradient penalty), wgan-clip (weights clipped), or none (plain autoencoder: no adversary at all)."""
    steps: int = 5
    """k: critic steps an iteration, on fresh batches."""
    penalty: float = 1.0
    """Weight of the gradient penalty (wgan-gp)."""
    clip: float = 0.01
    """eps: every weight is kept in [-eps, eps] (wgan-clip)."""
    hidden: tuple[int, ...] = (300, 300)
    """Widths of the hidden layers."""
    normalization: str = "layer"
    """none, layer or batch, after each hidden layer but the first. batch cannot be had with wgan-gp."""
    learning_rate: float = 1e-4
    """Step size of the critic's optimizer, step (2)."""
    beta1: float = 0.5
    """Adam's decay of the first moment."""

    def __post_init__(self) -> None:
        one_of("critic.objective", self.objective, OBJECTIVES)
        at_least("critic.steps", self.steps, 1)
        at_least("critic.penalty", self.penalty, 0.0)
        above("critic.clip", self.clip, 0.0)
        widths("critic.hidden", self.hidden)
        one_of("critic.normalization", self.normalization, NORMALIZATIONS)
        self.check_optimizer("critic")


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(TrainedSettings):
    """p_u: c -> a probability of each class, in Algorithm 2. Only with labelled data."""

    hidden: tuple[int, ...] = (300,)
    """Widths of the hidden layers."""
    normalization: str = "none"
    """none, layer or batch, after each hidden layer but the first."""
    learning_rate: float = 1e-3
    """Step size of the classifier's optimizer, step (2b), and of cross-alignment's discriminators."""

    def __post_init__(self) -> None:
        widths("classifier.hidden", self.hidden)
        one_of("classifier.normalization", self.normalization, NORMALIZATIONS)
        self.check_optimizer("classifier")


@dataclass(frozen=True, kw_only=True)
class HeadSettings(TrainedSettings):
    """p(y | codes of an example's sentences): classification with few labels."""

    hidden: tuple[int, ...] = (300,)
    """Widths of the hidden layers."""
    dropout: float = 0.2
    """Share of the features, and of each hidden layer, set to 0 while training."""
    batch_size: int = 64
    """Labelled examples a step."""
    start: float = 0.0
    """Share of the iterations in which the autoencoder learns alone, before the supervised steps begin."""
    joint: bool = True
    """Whether the autoencoder goes on learning beside the supervised steps; else the encoder is only fine-tuned."""
    learning_rate: float = 1e-3
    """Step size of the supervised step, which updates the head and the encoder."""

    def __post_init__(self) -> None:
        widths("head.hidden", self.hidden)
        within("head.dropout", self.dropout, 0.0, 1.0)
        at_least("head.batch_size", self.batch_size, 1)
        within("head.start", self.start, 0.0, 1.0)
        self.check_optimizer("head")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the core needs to know to build an ARAE and train it."""

    kind: str = "text"
    """text or image."""
    batch_size: int = 64
    """m: examples an iteration, over all workers together."""
    epochs: int = 15
    """Passes over the training data (of step (1))."""
    iterations: int = 0
    """Iterations to train; 0: as many as the epochs have."""
    seed: int = 0
    """Of initial weights, data order and every random draw."""
    longest: int = 15
    """Tokens that a sentence may have, the end mark not counted. Longer ones are left out and counted (text)."""
    cooldown: float = 0.0
    """Share of the iterations, the last ones, in which all learning rates fall to 0 in a line."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of encoder and decoder, in every step that updates the encoder; 0: not clipped."""
    temperature: float = 0.0
    """How samples are drawn from the decoder: 0 greedily, 1 from its own distribution, between them in between."""
    precision: str = "auto"
    """auto: bfloat16 on a processor with instructions for it (AVX-512 BF16, AMX), float32 elsewhere. Or
    float32; bfloat16 (autoencoder under autocast, all else stays float32); float64 (tests)."""
    cuda_graphs: str = "auto"
    """auto: on a GPU with one worker, each step is captured as a CUDA graph and played back, several times as fast as
    calling it; where that fails, a warning says so. off: steps are called."""
    initialization: str = "default"
    """default (torch's own); remembering (the same, but LSTMs' forget gates start open, with a bias of 1); released:
    U(-0.1, 0.1) for the autoencoder, N(0, 0.02) for all other parts."""
    vocabulary: VocabularySettings = field(default_factory=VocabularySettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    code: CodeSettings = field(default_factory=CodeSettings)
    generator: GeneratorSettings = field(default_factory=GeneratorSettings)
    critic: CriticSettings = field(default_factory=CriticSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        at_least("batch_size", self.batch_size, 1)
        at_least("epochs", self.epochs, 1)
        at_least("iterations", self.iterations, 0)
        require(0 <= self.seed < 2**32, "seed", self.seed, "in [0, 2**32)")
        at_least("longest", self.longest, 1)
        require(0.0 <= self.cooldown <= 1.0, "cooldown", self.cooldown, "in [0, 1]")
        at_least("gradient_clip", self.gradient_clip, 0.0)
        at_least("temperature", self.temperature, 0.0)
        one_of("precision", self.precision, PRECISIONS)
        one_of("cuda_graphs", self.cuda_graphs, CUDA_GRAPHS)
        one_of("initialization", self.initialization, INITIALIZATIONS)
        if self.kind == "text":
            for name, part in (("encoder", self.encoder), ("decoder", self.decoder)):
                require(len(set(part.hidden)) == 1, f"{name}.hidden", part.hidden, "layers of one width for text")
        if self.critic.objective == "wgan-gp" and self.critic.normalization == "batch":
            raise ValueError(
                "critic.normalization must be layer or none with critic.objective wgan-gp, got 'batch': the penalty is "
                "of each sample's gradient, which BatchNorm mixes"
            )
        self.check_shares(1)

    def check_shares(self, workers: int) -> None:
        """Raise ValueError where BatchNorm would have one example on some of so many workers."""
        if self.batch_normalized and self.batch_size < 2 * workers:
            each = f"{self.batch_normalized[0]} batch" + (f" on {workers} workers" if workers > 1 else "")
            raise ValueError(f"batch_size must be >= {2 * workers} with {each}, got {self.batch_size}")

    @property
    def batch_normalized(self) -> list[str]:
        """The settings of normalization that are batch, and have layers to normalise."""
        found = [part for part in NORMALIZED if getattr(self, part).normalization == "batch"]
        return [f"{part}.normalization" for part in found if not self.why_not_normalized(part)]

    def why_not_normalized(self, part: str) -> str:
        """The setting because of which a part's `normalization` normalises nothing, in words; empty where it does."""
        hidden = getattr(self, part).hidden
        if part in ("encoder", "decoder"):
            return "kind is text" if self.kind == "text" else ""
        if part == "classifier" and (self.kind == "image" or not self.encoder.attribute_weight):
            return "kind is image" if self.kind == "image" else "encoder.attribute_weight is 0"
        if part != "classifier" and not self.adversarial:
            return "critic.objective is none"
        if part == "generator" and self.generator.kind != "mlp":
            return f"generator.kind is {self.generator.kind}"
        first = 0 if part == "generator" else 1
        return "" if len(hidden) > first else f"{part}.hidden is {'one layer' if hidden else 'empty'}"

    @property
    def adversarial(self) -> bool:
        """Whether there are steps (2) and (3) at all."""
        return self.critic.objective != "none"
