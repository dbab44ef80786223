"""TrainingState: everything that a run is at one moment. Saved and loaded, the run goes on bit for bit."""

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from arae_core.attributes.cross_alignment import SequenceDiscriminators
from arae_core.code_space import Classifier, Critic, make_generator
from arae_core.codecs.lstm import SeparateDecoders, TextDecoder, TextEncoder
from arae_core.codecs.mlp import ImageDecoder, ImageEncoder
from arae_core.data.data_spec import DataSpec, TextSpec
from arae_core.runtime.allocator import keep_freed_memory
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import precision_on
from arae_core.settings import Settings, TrainedSettings

OPTIMIZER_OF = {"aligner": "classifier"}
"""Parts that have another one's optimizer settings."""


class Encoder(Protocol):
    """What the algorithm asks of an encoder; batches are of the kind that the state's shape says."""

    def __call__(self, batch: Any) -> Tensor: ...
    def encode_mixed(self, batch: Any, parts: int) -> Tensor: ...


class Decoder(Protocol):
    """What the algorithm asks of a decoder."""

    def nll(self, batch: Any, code: Tensor) -> Tensor: ...
    def score(self, batch: Any, code: Tensor) -> tuple[Tensor, Tensor, int]: ...


class TrainingState:
    """Modules, optimizers, the step, and the generator of random numbers.

    The data's position and the noise radius follow from `step`. Every rank draws for the whole batch and takes its own
    rows, so that all ranks stay in the same state and any number of ranks computes the same.

    Attributes: settings, spec, device, precision (what `auto` means there), dtype, step; encoder, decoder, generator,
    critic, which a plain autoencoder has not (all also by name in `modules`, where "average" is the generator's moving
    average, if there is one, "classifier" is that of labelled data, and "aligner" the discriminators of
    cross-alignment); optimizers by the same names; draws; end, the step at which the run is to end, as `train` finds
    it, else 0.
    """

    def __init__(self, settings: Settings, spec: DataSpec, device: torch.device | str = "cpu"):
        if isinstance(spec, TextSpec) != (settings.kind == "text"):
            raise ValueError(f"kind must match the data, got {settings.kind!r} for {spec}")
        self.settings, self.spec, self.device, self.step = settings, spec, torch.device(device), 0
        self.end = 0
        if self.device.type == "cpu":
            keep_freed_memory()
        self.precision = precision_on(self.device, settings)
        self.dtype = torch.float64 if self.precision == "float64" else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            encoder: TextEncoder | ImageEncoder
            decoder: TextDecoder | SeparateDecoders | ImageDecoder
            if isinstance(spec, TextSpec):
                separate = bool(spec.classes) and settings.decoder.conditioning == "separate"
                encoder = TextEncoder(settings, spec)
                decoder = SeparateDecoders(settings, spec) if separate else TextDecoder(settings, spec)
            else:
                encoder, decoder = ImageEncoder(settings, spec), ImageDecoder(settings, spec)
            self.encoder: Encoder = encoder
            self.decoder: Decoder = decoder
            self.generator = make_generator(settings)
            self.modules = nn.ModuleDict({"encoder": encoder, "decoder": decoder, "generator": self.generator})
            if settings.adversarial:
                self.modules["critic"] = self.critic = Critic(settings)
            if isinstance(spec, TextSpec) and spec.classes and settings.encoder.attribute_weight:
                self.modules["classifier"] = Classifier(settings, len(spec.classes))
            if isinstance(spec, TextSpec) and spec.classes and settings.decoder.alignment_weight:
                self.modules["aligner"] = SequenceDiscriminators(settings.decoder.hidden[-1], len(spec.classes))
            if settings.initialization == "released":
                _initialize_as_released(self.modules)
            elif settings.initialization == "remembering":
                _open_forget_gates(self.modules)
        if settings.adversarial and settings.generator.average:
            self.modules["average"] = copy.deepcopy(self.generator).requires_grad_(False)
        self.modules.to(self.device, self.dtype)
        self.optimizers = {
            part: make_optimizer(
                _optimizer_of(settings, part), list(self.modules[part].parameters()), cools=settings.cooldown > 0
            )
            for part in ("encoder", "decoder", "generator", "critic", "classifier", "aligner")
            if part in self.modules and list(self.modules[part].parameters())
        }
        self.draws = torch.Generator(self.device).manual_seed(settings.seed)
        # A gradient that waits for a later step must lie where a captured step found it, and is zeroed, not freed.
        self.keeps_gradients = self.device.type == "cuda" and settings.encoder.updates == "summed"

    @classmethod
    def new(cls, settings: Settings, spec: DataSpec, device: torch.device | str = "cpu") -> "TrainingState":
        """A run at its beginning. Raises ValueError where settings and data are of different kinds."""
        return cls(settings, spec, device)

    @property
    def hides_attribute(self) -> bool:
        """Whether there are steps (2b) and (3b): labelled data, and encoder.attribute_weight is not 0."""
        return "classifier" in self.modules

    @property
    def aligns_decoders(self) -> bool:
        """Whether there is cross-alignment: labelled data, and decoder.alignment_weight is not 0."""
        return "aligner" in self.modules

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on each number of the code now."""
        return self.settings.code.noise * float(self.settings.code.noise_decay ** (self.step // 100))

    def cool_down(self) -> None:
        """Set the learning rates of this step: lower in the run's last iterations, see `cooldown`."""
        if self.settings.cooldown:
            for part, optimizer in self.optimizers.items():
                set_rate(optimizer, self.rate_left * _optimizer_of(self.settings, part).learning_rate)

    @property
    def rate_left(self) -> float:
        """Share of the learning rates that is left at this step, in [0, 1]."""
        last = self.settings.cooldown * self.end
        return min(1.0, max(0.0, (self.end - self.step) / last)) if last else 1.0

    @property
    def sampler(self) -> nn.Module:
        """Where samples' codes come from: the generator or its moving average."""
        return self.modules["average"] if "average" in self.modules else self.generator

    def normal(self, rows: int, columns: int, parallel: Parallel, batches: int = 1) -> Tensor:
        """This rank's rows of N(0, 1) for `batches` batches, which have [rows, columns] each over all ranks."""
        drawn = torch.randn(rows * batches, columns, generator=self.draws, device=self.device, dtype=self.dtype)
        return parallel.local_rows(drawn, batches)

    def uniform(self, rows: int, columns: int, parallel: Parallel, batches: int = 1) -> Tensor:
        """This rank's rows of U(0, 1) for `batches` batches, which have [rows, columns] each over all ranks."""
        drawn = torch.rand(rows * batches, columns, generator=self.draws, device=self.device, dtype=self.dtype)
        return parallel.local_rows(drawn, batches)

    def autocast(self) -> AbstractContextManager[Any]:
        """The autoencoder's arithmetic; generator, critic, its penalty and the unit sphere stay outside."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def update(self, parts: Sequence[str], loss: Tensor, parallel: Parallel, words: Tensor | None = None) -> Tensor:
        """One optimizer step of `parts` alone, whatever else `loss` depends on. The norm of their gradient before
        clipping, where the encoder is among them; else 0.

        words: those that the batches of all ranks have, if `loss` depends on no other's vector.
        """
        parameters = [p for part in parts for p in self.modules[part].parameters()]
        parallel.weighted(loss, self.settings.batch_size).backward(inputs=parameters)
        parallel.sum_gradients(parameters, {} if words is None else self._vectors_of(parts, words))
        norm = torch.zeros((), device=loss.device)
        if "encoder" in parts:
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip or math.inf)
        for part in parts:
            self.optimizers[part].step()
            # Sums over ranks lie where the next step's will; with several ranks nothing is captured.
            self.optimizers[part].zero_grad(set_to_none=parallel.world > 1 or not self.keeps_gradients)
        return norm

    def _vectors_of(self, parts: Sequence[str], words: Tensor) -> dict[nn.Parameter, Tensor]:
        """Tables of word vectors, and the rows of them that words[U] have."""
        assert isinstance(self.spec, TextSpec)
        if self.settings.encoder.updates == "summed":
            return {}  # gradients of several batches wait in one
        found, there = {}, words.to(self.device)
        for table in (module for part in parts for module in self.modules[part].modules()):
            if isinstance(table, nn.Embedding) and table.num_embeddings == self.spec.vocabulary:
                assert isinstance(table.weight, nn.Parameter)
                found[table.weight] = there
        return found

    def add(self, parts: Sequence[str], loss: Tensor, parallel: Parallel, words: Tensor | None = None) -> None:
        """What a step beside (1) asks of the autoencoder's parts: an update of its own or, where `encoder.updates` says
        summed, a gradient that waits for step (1). words: see `update`."""
        if self.settings.encoder.updates == "each":
            self.update(parts, loss, parallel, words)
        else:
            parameters = [p for part in parts for p in self.modules[part].parameters()]
            parallel.weighted(loss, self.settings.batch_size).backward(inputs=parameters)

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the generator's average towards its weights; buffers are copied."""
        if "average" not in self.modules:
            return
        decay, average = self.settings.generator.average, self.modules["average"]
        for weight, now in zip(average.parameters(), self.generator.parameters(), strict=True):
            weight.lerp_(now, 1 - decay)
        for buffer, current in zip(average.buffers(), self.generator.buffers(), strict=True):
            buffer.copy_(current)


def make_optimizer(settings: TrainedSettings, parameters: list[nn.Parameter], *, cools: bool) -> torch.optim.Optimizer:
    """The optimizer that a part's settings ask for. cools: its rate will change; on a GPU it then lies there, where a
    captured step reads it."""
    device, decay = parameters[0].device, settings.weight_decay
    on_gpu = device.type == "cuda"
    rate = torch.tensor(settings.learning_rate, device=device) if cools and on_gpu else settings.learning_rate
    if settings.optimizer == "sgd":  # plain: what is decayed by way of the gradient is decayed the same
        return torch.optim.SGD(parameters, rate, weight_decay=decay, fused=True)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay, fused=True, capturable=on_gpu)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the optimizer's learning rate."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _optimizer_of(settings: Settings, part: str) -> TrainedSettings:
    found: TrainedSettings = getattr(settings, OPTIMIZER_OF.get(part, part))
    return found


@torch.no_grad()
def _open_forget_gates(modules: nn.Module) -> None:
    """A bias of 1 in the forget gates of LSTMs, so that they keep what they read from the start (Jozefowicz et al.
    2015, section 5). A gate has two biases; the second becomes 0."""
    for module in modules.modules():
        if isinstance(module, nn.LSTM):
            for name, bias in module.named_parameters():
                if name.startswith("bias"):  # of the gates: input, forget, cell, output
                    bias[module.hidden_size : 2 * module.hidden_size] = float(name.startswith("bias_ih"))


@torch.no_grad()
def _initialize_as_released(modules: nn.ModuleDict) -> None:
    """U(-0.1, 0.1) for the text autoencoder, the output's bias 0; N(0, 0.02) with bias 0 for all other parts, gains of
    normalization included, as released."""
    for name, module in modules.items():
        for path, parameter in module.named_parameters():
            if isinstance(module, ImageEncoder | ImageDecoder):
                continue  # the released image code leaves these as its library makes them
            if name in ("encoder", "decoder"):
                parameter.uniform_(-0.1, 0.1) if not path.endswith("output.bias") else parameter.zero_()
            elif path.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(0, 0.02)
