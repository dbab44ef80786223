"""`TrainingState`: everything that a run is at one moment. Saved and loaded, it continues bit for bit."""

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from arae_core.attributes.cross_alignment import SequenceDiscriminators
from arae_core.codecs import CODECS, Decoder, Encoder
from arae_core.codes import CODES, Code
from arae_core.data.data_spec import DataSpec, TextSpec
from arae_core.networks import Classifier, Critic
from arae_core.objectives import OBJECTIVES, Objective
from arae_core.priors import PRIORS, Prior
from arae_core.runtime.parallel import Parallel
from arae_core.runtime.precision import precision_on
from arae_core.settings import Settings, TrainedSection
from arae_core.training.initialization import initialize_as_released, open_forget_gates
from arae_core.training.optimizers import make_optimizer, set_rate

SECTION_OF = {"aligner": "classifier", "prior": "generator", "code": "encoder"}
"""Parts that are trained with the settings of another name."""
AUTOENCODER = ("encoder", "code", "decoder")
"""Parts that step (1) updates."""


class TrainingState:
    """Modules, optimizers, the step, and the generator of random numbers.

    The position in the data and the radius of the noise follow from `step`. Every rank draws random numbers for the
    whole batch and takes its own rows, so that all ranks stay in the same state, and any number of ranks computes the
    same.

    Attributes:
        settings, spec: what the model is built from.
        device, precision (with `auto` resolved), dtype.
        modules: the parts by name: encoder, code, decoder, prior; critic, if the objective has one; average, the moving
            average of the prior; classifier and aligner, of labelled data. The first five are attributes, too.
        objective: how codes are compared.
        draws: the random generator.
        step: iterations done. end: the step at which the run is to end, set by `train`; else 0.
    """

    def __init__(self, settings: Settings, spec: DataSpec, device: torch.device | str = "cpu") -> None:
        if isinstance(spec, TextSpec) != (settings.kind == "text"):
            raise ValueError(f"kind must match the data, got {settings.kind!r} for {spec}")
        self.settings, self.spec, self.device = settings, spec, torch.device(device)
        self.step = self.end = 0
        self.precision = precision_on(self.device, settings)
        self.dtype = torch.float64 if self.precision == "float64" else torch.float32
        self.objective: Objective = OBJECTIVES[settings.critic.objective].load()(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.modules = self._build()
        if settings.generator.average and list(self.modules["prior"].parameters()):
            self.modules["average"] = copy.deepcopy(self.modules["prior"]).requires_grad_(False)
        self.modules.to(self.device, self.dtype)
        self.draws = torch.Generator(self.device).manual_seed(settings.seed)
        # A gradient that waits for a later step must lie where a captured step found it: it is zeroed, not freed.
        self.keeps_gradients = self.device.type == "cuda" and settings.encoder.updates == "summed"

    def _build(self) -> nn.ModuleDict:
        """The parts, their weights drawn in a fixed order."""
        settings, spec = self.settings, self.spec
        classes = spec.classes if isinstance(spec, TextSpec) else ()
        encoder = CODECS[settings.chosen("encoder.kind")[0]].load().encoder(settings, spec)
        decoder_variant = CODECS[settings.chosen("decoder.kind")[0]]
        decoder = decoder_variant.load().decoder(settings, spec)
        code = CODES[settings.code.kind].load()(settings)
        prior = PRIORS[settings.chosen("prior.kind")[0]].load()(settings, code)
        modules = nn.ModuleDict({"encoder": encoder, "code": code, "decoder": decoder, "prior": prior})
        if settings.has_critic:
            modules["critic"] = Critic(settings)
        if classes and settings.encoder.attribute_weight:
            modules["classifier"] = Classifier(settings, len(classes))
        if classes and settings.decoder.alignment_weight and "decoder.alignment_weight" in decoder_variant.reads:
            modules["aligner"] = SequenceDiscriminators(settings.decoder.hidden[-1], len(classes))
        if settings.initialization == "released":
            initialize_as_released(modules)
        elif settings.initialization == "remembering":
            open_forget_gates(modules)
        return modules

    @cached_property
    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimizers by the names of the parts that have parameters.

        They are built when first asked for: a model that only samples does without, and the first optimizer of a
        process makes torch import its compiler, which takes seconds.
        """
        return {
            part: make_optimizer(self._section_of(part), parameters, cools=self.settings.cooldown > 0)
            for part in ("encoder", "code", "decoder", "prior", "critic", "classifier", "aligner")
            if part in self.modules and (parameters := list(self.modules[part].parameters()))
        }

    @classmethod
    def new(cls, settings: Settings, spec: DataSpec, device: torch.device | str = "cpu") -> "TrainingState":
        """Begin a run. Raise ValueError if settings and data are of different kinds."""
        return cls(settings, spec, device)

    @property
    def encoder(self) -> Encoder:
        """enc_phi, up to the map to the code space."""
        return cast(Encoder, self.modules["encoder"])

    @property
    def code(self) -> Code:
        """The code space."""
        return cast(Code, self.modules["code"])

    @property
    def decoder(self) -> Decoder:
        """p_psi."""
        return cast(Decoder, self.modules["decoder"])

    @property
    def prior(self) -> Prior:
        """The distribution that codes of samples come from."""
        return cast(Prior, self.modules["prior"])

    @property
    def critic(self) -> nn.Module:
        """f_w. Raise KeyError if the objective has none."""
        return self.modules["critic"]

    @property
    def sampler(self) -> Prior:
        """The prior that samples are drawn from: its moving average, if there is one."""
        return cast(Prior, self.modules["average"]) if "average" in self.modules else self.prior

    @property
    def hides_attribute(self) -> bool:
        """True if there are steps (2b) and (3b): labelled data, and encoder.attribute_weight is not 0."""
        return "classifier" in self.modules

    @property
    def aligns_decoders(self) -> bool:
        """True if there is cross-alignment: labelled data, and decoder.alignment_weight is not 0."""
        return "aligner" in self.modules

    @property
    def noise(self) -> float:
        """Standard deviation of the noise on each number of the code at this step."""
        return self.settings.code.noise * float(self.settings.code.noise_decay ** (self.step // 100))

    def encode(self, batch: Any) -> Tensor:
        """The codes [B, D] of a batch, with gradients, in the precision of the autoencoder."""
        return self.code(self.encoder(batch))

    @torch.no_grad()
    def encode_mixed(self, batch: Any, parts: int = 4) -> Tensor:
        """The codes [B, D] of a batch of mixed lengths, without gradients, in `parts` runs of like length."""
        return self.code(self.encoder.encode_mixed(batch, parts))

    def cool_down(self) -> None:
        """Set the learning rates of this step, see `cooldown`."""
        if self.settings.cooldown:
            for part, optimizer in self.optimizers.items():
                set_rate(optimizer, self.rate_left * self._section_of(part).learning_rate)

    @property
    def rate_left(self) -> float:
        """Share of the learning rates that is left at this step, in [0, 1]."""
        last = self.settings.cooldown * self.end
        return min(1.0, max(0.0, (self.end - self.step) / last)) if last else 1.0

    def normal(self, rows: int, columns: int, parallel: Parallel, batches: int = 1) -> Tensor:
        """This rank's rows of N(0, 1) for `batches` batches, each of [rows, columns] over all ranks."""
        drawn = torch.randn(rows * batches, columns, generator=self.draws, device=self.device, dtype=self.dtype)
        return parallel.local_rows(drawn, batches)

    def uniform(self, rows: int, columns: int, parallel: Parallel, batches: int = 1) -> Tensor:
        """This rank's rows of U(0, 1) for `batches` batches, each of [rows, columns] over all ranks."""
        drawn = torch.rand(rows * batches, columns, generator=self.draws, device=self.device, dtype=self.dtype)
        return parallel.local_rows(drawn, batches)

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the autoencoder. Prior, critic, penalties and the code space stay outside."""
        if self.precision != "bfloat16":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def parameters(self, parts: Sequence[str]) -> list[nn.Parameter]:
        """The parameters of the named parts."""
        return [p for part in parts for p in self.modules[part].parameters()]

    def update(
        self,
        parts: Sequence[str],
        loss: Tensor,
        parallel: Parallel,
        words: Tensor | None = None,
        *,
        whole_batch: bool = False,
    ) -> Tensor:
        """Take one optimizer step of `parts` alone, whatever else `loss` depends on.

        loss: a mean over this rank's rows; with whole_batch, over the rows of all ranks.
        words: ids of the words in the batches of all ranks, if `loss` depends on no other word vectors.

        Return the norm of the gradient before clipping, if the encoder is among the parts; else 0.
        """
        parameters = self.parameters(parts)
        self._backward(parameters, loss, parallel, whole_batch)
        parallel.sum_gradients(parameters, {} if words is None else self._word_vectors(parts, words))
        norm = torch.zeros((), device=loss.device)
        if "encoder" in parts:
            norm = nn.utils.clip_grad_norm_(parameters, self.settings.gradient_clip or math.inf)
        for part in parts:
            if part in self.optimizers:
                self.optimizers[part].step()
                # With several ranks nothing is captured, and the next sums need the memory.
                self.optimizers[part].zero_grad(set_to_none=parallel.world > 1 or not self.keeps_gradients)
        return norm

    def update_or_accumulate(
        self,
        parts: Sequence[str],
        loss: Tensor,
        parallel: Parallel,
        words: Tensor | None = None,
        *,
        whole_batch: bool = False,
    ) -> None:
        """Apply an auxiliary gradient now, or accumulate it until step (1) if `encoder.updates` is summed.

        Arguments as for `update`.
        """
        if self.settings.encoder.updates == "each":
            self.update(parts, loss, parallel, words, whole_batch=whole_batch)
        else:
            self._backward(self.parameters(parts), loss, parallel, whole_batch)

    def _backward(self, parameters: list[nn.Parameter], loss: Tensor, parallel: Parallel, whole_batch: bool) -> None:
        weighted = loss if whole_batch else parallel.weighted(loss, self.settings.batch_size)
        weighted.backward(inputs=parameters)

    def _word_vectors(self, parts: Sequence[str], words: Tensor) -> dict[nn.Parameter, Tensor]:
        """The tables of word vectors in `parts`, and the rows words[U] of each whose gradient is not zero."""
        assert isinstance(self.spec, TextSpec)
        if self.settings.encoder.updates == "summed":
            return {}  # gradients of several batches are accumulated
        found, rows = {}, words.to(self.device)
        for table in (module for part in parts for module in self.modules[part].modules()):
            if isinstance(table, nn.Embedding) and table.num_embeddings == self.spec.vocabulary:
                assert isinstance(table.weight, nn.Parameter)
                found[table.weight] = rows
        return found

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average of the prior towards its weights; buffers are copied."""
        if "average" not in self.modules:
            return
        decay, average, now = self.settings.generator.average, self.modules["average"], self.modules["prior"]
        for weight, current in zip(average.parameters(), now.parameters(), strict=True):
            weight.lerp_(current, 1 - decay)
        for buffer, present in zip(average.buffers(), now.buffers(), strict=True):
            buffer.copy_(present)

    def _section_of(self, part: str) -> TrainedSection:
        section: TrainedSection = getattr(self.settings, SECTION_OF.get(part, part))
        return section
