"""`Settings`: everything that the core can be told, as one tree of frozen dataclasses. Imports no torch.

A setting has one dotted name, its place in this tree: `Settings(critic=CriticSettings(steps=5))` is `critic.steps`. The
command line's flag, the key of a search space, the MLflow parameter and the error message all use that name.
"""

from dataclasses import dataclass
from typing import Any

from arae_core.codecs import CODECS
from arae_core.codes import CODES
from arae_core.objectives import OBJECTIVES
from arae_core.priors import PRIORS
from arae_core.settings.bounds import Bound, at_least, one_of
from arae_core.settings.conditions import any_of, equals, reads, value_of
from arae_core.settings.declaration import Condition, Section, declarations, section, setting
from arae_core.settings.sections import (
    ALIGNED,
    DRAWS_SAMPLES,
    HIDDEN,
    KINDS,
    NORMALIZED,
    TEXT,
    ClassifierSettings,
    CodeSettings,
    CriticSettings,
    DecoderSettings,
    EncoderSettings,
    GeneratorSettings,
    PriorSettings,
    VocabularySettings,
)

ROOMS = {
    "encoder.kind": CODECS,
    "decoder.kind": CODECS,
    "code.kind": CODES,
    "prior.kind": PRIORS,
    "critic.objective": OBJECTIVES,
}
"""Setting that chooses a variant -> the room it chooses from."""


def _initializes(settings: Any, _: str) -> str:
    if settings.initialization == "remembering":
        return (
            ""
            if "lstm" in (settings.chosen("encoder.kind")[0], settings.chosen("decoder.kind")[0])
            else "kind is image"
        )
    return "" if settings.kind == "text" or settings.adversarial else "kind is image"


@dataclass(frozen=True, kw_only=True)
class Settings(Section):
    """Everything that the core needs to know to build an ARAE and train it."""

    kind: str = setting("text", one_of(*KINDS), structural=True, fixed="the data", prepares=True)
    """Kind of data: text or image."""
    batch_size: int = setting(64, at_least(1))
    """m: examples in an iteration, over all workers together."""
    epochs: int = setting(15, at_least(1), fixed="the length of a run", when=equals("iterations", 0))
    """Passes over the training data, counted in batches of step (1)."""
    iterations: int = setting(0, at_least(0), fixed="the length of a run")
    """Iterations of the run. 0: as many as the epochs have."""
    seed: int = setting(0, Bound(lambda seed: 0 <= seed < 2**32, "in [0, 2**32)"))
    """Seed of the initial weights, the order of the data, and every random draw."""
    longest: int = setting(15, at_least(1), fixed="the data", prepares=True, when=TEXT)
    """Largest number of tokens in a sentence, without the end token. Longer sentences are left out and counted."""
    cooldown: float = setting(0.0, Bound(lambda share: 0.0 <= share <= 1.0, "in [0, 1]"))
    """Share of the iterations, at the end, over which all learning rates fall linearly to 0."""
    gradient_clip: float = setting(1.0, at_least(0.0), mutable=True)
    """Largest norm of the gradient of encoder and decoder in every step that updates the encoder. 0: no clipping."""
    temperature: float = setting(0.0, at_least(0.0), when=DRAWS_SAMPLES)
    """Sampling temperature of the decoder. 0: greedy; 1: its own distribution."""
    precision: str = setting("auto", one_of("auto", "float32", "bfloat16", "float64"))
    """auto: bfloat16 on a CPU with instructions for it (AVX-512 BF16, AMX), else float32. bfloat16 runs the autoencoder
    under autocast and leaves all else in float32. float64 is for tests."""
    cuda_graphs: str = setting("auto", one_of("auto", "off"))
    """auto: on a GPU with one worker, capture each step as a CUDA graph and replay it, several times as fast as calling
    it; if that fails, warn and call the steps. off: call the steps."""
    initialization: str = setting(
        "default",
        one_of("default", "remembering", "released"),
        when=Condition(_initializes, lambda _: "the parts have such an initialization"),
    )
    """default (torch's), remembering (the same, but LSTMs start with open forget gates, a bias of 1), or released:
    U(-0.1, 0.1) for an LSTM autoencoder, N(0, 0.02) for all other parts."""
    vocabulary: VocabularySettings = section(VocabularySettings, fixed="the data", prepares=True, when=TEXT)
    encoder: EncoderSettings = section(EncoderSettings)
    decoder: DecoderSettings = section(DecoderSettings)
    code: CodeSettings = section(CodeSettings)
    prior: PriorSettings = section(PriorSettings)
    generator: GeneratorSettings = section(GeneratorSettings, when=reads(PRIORS, "prior.kind", "generator"))
    critic: CriticSettings = section(CriticSettings, when=reads(OBJECTIVES, "critic.objective", "critic"))
    classifier: ClassifierSettings = section(ClassifierSettings, when=any_of(HIDDEN, ALIGNED))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_codecs()
        for name, room in ROOMS.items():
            chosen, _ = self.chosen(name)
            for other, (value, why) in room[chosen].forbids.items():
                if value_of(self, other) == value:
                    raise ValueError(f"{other} must not be {value!r} with {name} {chosen}: {why}")
        if self.prior.kind == "generator" and not self._objective_reads("generator"):
            raise ValueError(
                f"prior.kind must be auto, gaussian or fitted-gaussian with critic.objective {self.critic.objective}, "
                "which trains no generator, got 'generator'"
            )
        if self.decoder.alignment_weight and self.decoder.conditioning != "embedding":
            raise ValueError(
                "decoder.conditioning must be embedding with a decoder.alignment_weight, "
                f"got {self.decoder.conditioning!r}"
            )
        self.check_shares(1)

    def _check_codecs(self) -> None:
        for part, name in (("encoder", self.encoder.kind), ("decoder", self.decoder.kind)):
            fitting = [codec for codec, variant in CODECS.items() if self.kind in variant.data]
            if name != "auto" and name not in fitting:
                allowed = ", ".join(("auto", *fitting))
                raise ValueError(f"{part}.kind must be one of {allowed} with kind {self.kind}, got {name!r}")
            hidden = getattr(self, part).hidden
            if self.chosen(f"{part}.kind")[0] == "lstm" and len(set(hidden)) > 1:
                raise ValueError(f"{part}.hidden must be layers of one width for an LSTM, got {hidden!r}")

    def chosen(self, name: str) -> tuple[str, str]:
        """The variant that a setting chooses, with "auto" resolved, and the reason, in words."""
        value = value_of(self, name)
        if value != "auto":
            return value, f"{name} is {value}"
        if name == "prior.kind":
            trained = self._objective_reads("generator")
            return "generator" if trained else "fitted-gaussian", f"critic.objective is {self.critic.objective}"
        return next(codec for codec, variant in CODECS.items() if self.kind in variant.data), f"kind is {self.kind}"

    def _objective_reads(self, what: str) -> bool:
        return what in OBJECTIVES[self.critic.objective].reads

    def check_shares(self, workers: int) -> None:
        """Raise ValueError if BatchNorm would see a single example on one of `workers` workers."""
        if self.batch_normalized and self.batch_size < 2 * workers:
            each = f"{self.batch_normalized[0]} batch" + (f" on {workers} workers" if workers > 1 else "")
            raise ValueError(f"batch_size must be >= {2 * workers} with {each}, got {self.batch_size}")

    @property
    def batch_normalized(self) -> list[str]:
        """Names of the normalization settings that are batch and have an effect."""
        names = [f"{part}.normalization" for part in NORMALIZED]
        known = declarations(type(self))
        return [name for name in names if value_of(self, name) == "batch" and not known[name].obstacle(self)]

    @property
    def without_classes(self) -> str:
        """Why the model gets no classes; "" if it may. The core alone does not know the data, and assumes labels."""
        return ""

    @property
    def without_samples(self) -> str:
        """Why no samples are drawn from the model; "" if they are."""
        return ""

    @property
    def adversarial(self) -> bool:
        """True if codes are compared with the prior's: there is a step (3)."""
        return self._objective_reads("encoder.adversarial_weight")

    @property
    def has_critic(self) -> bool:
        """True if the comparison has a critic: there is a step (2)."""
        return self._objective_reads("critic")
