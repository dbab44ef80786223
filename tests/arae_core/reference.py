"""An independent implementation of Algorithms 1 and 2: the paper's formulas, one sentence at a time, in float64.

It shares only the batches with the core (`BatchSampler`, which has tests of its own). Weights come as a state dict.
Random numbers come from a generator with the same seed, in this order: dropped words (encoder, decoder), noise on the
code; noise z and mixes of all k critic steps; noise z of the generator's step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import Batch, ImageBatch
from arae_core.data.data_spec import TextSpec
from arae_core.settings import Settings

Row = list[int] | Tensor
"""A sentence without start and end tokens, or the pixels of an image."""


class Reference:
    """Weights p, named as in the core's state dict, and the scalars of the last iteration."""

    def __init__(self, settings: Settings, start: dict[str, Tensor], data: BatchSampler, end: int = 0):
        """end: the last step of the run, for the cooldown."""
        self.settings, self.data, self.end, self.rate = settings, data, end, 1.0
        self.p = {name: value.clone() for name, value in start.items()}
        self.moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in self.p.items()}
        self.updates = dict.fromkeys(("encoder", "decoder", "prior", "critic", "classifier"), 0)
        self.draws = torch.Generator().manual_seed(settings.seed)
        self.scalars: dict[str, float] = {}
        self.learned = any(name.startswith("prior.layers.") for name in start)

    def iteration(self, step: int) -> None:
        s = self.settings
        sigma = s.code.noise * s.code.noise_decay ** (step // 100)
        cooling = s.cooldown * self.end
        self.rate = 1.0 if step < self.end - cooling or not cooling else (self.end - step) / cooling
        batch = self.data.reconstruction_batch(step)[0]
        self.held: dict[str, Tensor] = {}
        if s.encoder.updates == "each":
            self.reconstruct(rows_of(batch), sigma, labels_of(batch))
        hides = bool(labels_of(batch)) and s.encoder.attribute_weight > 0
        if hides:
            batch = self.data.classifier_batch(step)
            self.classify(rows_of(batch), labels_of(batch))
        if s.critic.objective != "none":
            self.adversarial(step)
        if hides:
            batch = self.data.adversarial_batch(step)
            self.hide(rows_of(batch), labels_of(batch))
        if s.encoder.updates == "summed":
            batch = self.data.reconstruction_batch(step)[0]
            self.reconstruct(rows_of(batch), sigma, labels_of(batch))

    def adversarial(self, step: int) -> None:
        s, k = self.settings, self.settings.critic.steps
        pool = rows_of(self.data.critic_batches(step, k))
        parts = [pool[i * s.batch_size : (i + 1) * s.batch_size] for i in range(k)]
        if s.encoder.adversarial_each_critic_step:
            for part in parts:
                self.criticise([part])
                self.confuse_encoder(part)
        else:
            self.criticise(parts)
            self.confuse_encoder(rows_of(self.data.adversarial_batch(step)))
        if self.learned:
            self.require_grad()
            fake = self.generate(self.normal(s.batch_size, s.generator.noise_size))
            self.update(("prior",), -sum_of(self.critic(c) for c in fake) / s.batch_size)
            for name in self.p:
                if name.startswith("average."):
                    now = self.p[name.replace("average.", "prior.")]
                    self.p[name] = s.generator.average * self.p[name] + (1 - s.generator.average) * now

    def reconstruct(self, rows: Sequence[Row], sigma: float, labels: Sequence[int] = ()) -> None:
        s = self.settings
        # Words are dropped by uniform numbers, one for each place of the longest sentence.
        hidden = [
            torch.rand(len(rows), s.longest + 1, generator=self.draws, dtype=torch.float64) < share
            if share and s.kind == "text"
            else torch.zeros(len(rows), s.longest + 1, dtype=torch.bool)
            for share in (s.encoder.word_dropout, s.decoder.word_dropout)
        ]
        self.require_grad()
        codes = [self.encode(row, drop) for row, drop in zip(rows, hidden[0], strict=True)]
        if sigma:
            codes = [c + sigma * e for c, e in zip(codes, self.normal(len(rows), s.code.size), strict=True)]
        given: Sequence[int | None] = labels or [None] * len(rows)
        nats = sum_of(-self.log_p(*one) for one in zip(rows, codes, hidden[1], given, strict=True))
        targets = sum(len(row) + (s.kind == "text") for row in rows)
        self.update(("encoder", "decoder"), nats / targets)
        self.scalars["reconstruction_loss"] = float(nats.detach()) / targets

    def criticise(self, parts: Sequence[Sequence[Row]]) -> None:
        s, m = self.settings, self.settings.batch_size
        real = [[self.encode(row).detach() for row in part] for part in parts]
        width = s.generator.noise_size if self.learned else s.code.size
        fake = [c.detach() for c in self.generate(self.normal(m * len(parts), width))]
        mixes = torch.rand(m * len(parts), 1, generator=self.draws, dtype=torch.float64)
        for i, c in enumerate(real):
            c_fake, mix = fake[i * m : (i + 1) * m], mixes[i * m : (i + 1) * m]
            self.require_grad()
            distance = sum_of(self.critic(one) for one in c) / m - sum_of(self.critic(one) for one in c_fake) / m
            loss, self.scalars["distance"] = -distance, float(distance.detach())
            if s.critic.objective == "wgan-gp":
                penalties = []
                for a, b, e in zip(c, c_fake, mix, strict=True):
                    point = (e * a + (1 - e) * b).requires_grad_()
                    (slope,) = torch.autograd.grad(self.critic(point), point, create_graph=True)
                    penalties.append(((slope * slope).sum().sqrt() - 1) ** 2)
                loss = loss + s.critic.penalty * sum_of(penalties) / m
            self.update(("critic",), loss)
            if s.critic.objective == "wgan-clip":
                for name in self.p:
                    if name.startswith("critic."):
                        self.p[name] = self.p[name].clamp(-s.critic.clip, s.critic.clip)

    def confuse_encoder(self, rows: Sequence[Row]) -> None:
        self.require_grad()
        loss = sum_of(self.critic(self.encode(row)) for row in rows) / len(rows)
        self.update(("encoder",), self.settings.encoder.adversarial_weight * loss)

    def classify(self, rows: Sequence[Row], labels: Sequence[int]) -> None:
        codes = [self.encode(row).detach() for row in rows]
        self.require_grad()
        nats = [-self.classifier(c)[y] for c, y in zip(codes, labels, strict=True)]
        right = [int(self.classifier(c).argmax()) == y for c, y in zip(codes, labels, strict=True)]
        self.scalars["classifier_loss"] = float(sum_of(nats).detach()) / len(rows)
        self.scalars["classifier_accuracy"] = sum(right) / len(rows)
        self.update(("classifier",), sum_of(nats) / len(rows))

    def hide(self, rows: Sequence[Row], labels: Sequence[int]) -> None:
        self.require_grad()
        chances = [self.classifier(self.encode(row)) for row in rows]
        if len(chances[0]) == 2:
            loss = sum_of(-chance[1 - y] for chance, y in zip(chances, labels, strict=True)) / len(rows)
        else:
            loss = sum_of(-chance.sum() / len(chance) for chance in chances) / len(rows)
        self.scalars["hiding_loss"] = float(loss.detach())
        self.update(("encoder",), self.settings.encoder.attribute_weight * loss)

    # -- the parts

    def encode(self, row: Row, dropped: Tensor | None = None) -> Tensor:
        """The code of one example, with the words at `dropped` hidden."""
        if isinstance(row, Tensor):
            c = self.mlp("encoder", (2 * row - 1)[None], torch.relu)[0]
        else:
            c = self.lstm("encoder", self.p["encoder.embedding.weight"][self.input_ids(row, dropped)])[-1]
            if "encoder.to_code.weight" in self.p:
                c = self.p["encoder.to_code.weight"] @ c + self.p["encoder.to_code.bias"]
        return c / (c * c).sum().sqrt() if self.settings.code.kind == "sphere" else c

    def classifier(self, c: Tensor) -> Tensor:
        """log p_u(y | c) for every class y."""
        return self.mlp("classifier", c[None], torch.relu)[0].log_softmax(0)

    def log_p(self, row: Row, c: Tensor, dropped: Tensor, y: int | None) -> Tensor:
        """log p(x | c, y), a scalar."""
        if isinstance(row, Tensor):
            logits = self.mlp("decoder", c[None], torch.relu)[0]
            if self.settings.decoder.logits_per_pixel == 2:
                return logits.reshape(-1, 2).log_softmax(1)[torch.arange(len(row)), row.long()].sum()
            return (row * logits.sigmoid().log() + (1 - row) * (1 - logits.sigmoid()).log()).sum()
        part = "decoder"
        if y is not None and self.settings.decoder.conditioning == "separate":
            part = f"decoder.decoders.{y}"
        elif y is not None:
            c = torch.cat([c, self.p["decoder.attribute.weight"][y]])
        words = self.p[f"{part}.embedding.weight"][self.input_ids(row, dropped)]
        states = self.lstm(part, torch.cat([words, c.expand(len(words), -1)], 1))
        logits = states @ self.p["decoder.output.weight"] + self.p["decoder.output.bias"]
        assert isinstance(self.data.spec, TextSpec)
        return sum_of(z[i] - z.exp().sum().log() for z, i in zip(logits, [*row, self.data.spec.end], strict=True))

    def input_ids(self, row: list[int], dropped: Tensor | None) -> list[int]:
        spec = self.data.spec
        assert isinstance(spec, TextSpec)
        hidden = [False] * (len(row) + 1) if dropped is None else dropped.tolist()
        return [spec.start, *(spec.unknown if hidden[1 + i] else word for i, word in enumerate(row))]

    def lstm(self, part: str, x: Tensor) -> Tensor:
        """Hidden states [T, H] of the last layer over x[T, E] (Hochreiter & Schmidhuber 1997, gates i f g o)."""
        layer = 0
        while f"{part}.lstm.weight_ih_l{layer}" in self.p:
            w_x, w_h, b_x, b_h = (
                self.p[f"{part}.lstm.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            h = cell = torch.zeros(w_h.shape[1], dtype=torch.float64)
            states = []
            for x_t in x:
                i, f, g, o = (w_x @ x_t + b_x + w_h @ h + b_h).chunk(4)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(cell)
                states.append(h)
            x, layer = torch.stack(states), layer + 1
        return x

    def generate(self, z: Tensor) -> list[Tensor]:
        c, output = z, self.settings.generator.output
        sphere = output == "sphere" if self.learned else self.settings.code.kind == "sphere"
        if self.learned:
            c = self.mlp("prior", z, torch.relu)
            c = torch.tanh(c) if output == "tanh" else c
        return list(c / (c * c).sum(1, keepdim=True).sqrt() if sphere else c)

    def critic(self, c: Tensor) -> Tensor:
        return self.mlp("critic", c[None], lambda x: torch.where(x > 0, x, 0.2 * x))[0, 0]

    def mlp(self, part: str, x: Tensor, activation: object) -> Tensor:
        """Linear maps with (layer normalization and) activation between them, of x[N, I]."""
        assert callable(activation)
        places = sorted(
            int(n.split(".")[2]) for n in self.p if n.startswith(f"{part}.layers.") and n.endswith("weight")
        )
        linear = [i for i in places if self.p[f"{part}.layers.{i}.weight"].dim() == 2]
        for i in places:
            weight, bias = self.p[f"{part}.layers.{i}.weight"], self.p[f"{part}.layers.{i}.bias"]
            if i in linear:
                x = x @ weight.T + bias
            else:
                centred = x - x.mean(1, keepdim=True)
                x = centred / ((centred**2).mean(1, keepdim=True) + 1e-5).sqrt() * weight + bias
            if i != linear[-1] and i + 1 not in places:
                x = activation(x)
        return x

    # -- the optimizers

    def normal(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=self.draws, dtype=torch.float64)

    def require_grad(self) -> None:
        self.p = {name: value.detach().requires_grad_() for name, value in self.p.items()}

    def update(self, parts: Sequence[str], loss: Tensor) -> None:
        """Adam (Kingma & Ba 2015, Algorithm 1) or plain gradient descent on `parts` alone."""
        names = [name for name in self.p if name.split(".")[0] in parts]
        found = torch.autograd.grad(loss, [self.p[n] for n in names], allow_unused=True)
        # The decoder of a class that is not in the batch gets no gradient.
        gradients = {n: torch.zeros_like(self.p[n]) if g is None else g for n, g in zip(names, found, strict=True)}
        self.p = {name: value.detach() for name, value in self.p.items()}
        if "encoder" in parts and self.settings.encoder.updates == "summed":
            gradients = {n: g + self.held.get(n, 0) for n, g in gradients.items()}
            if "decoder" not in parts:  # step (1) applies what the others accumulated
                self.held = gradients
                return
        clip = self.settings.gradient_clip
        norm = sum_of((g * g).sum() for g in gradients.values()).sqrt()
        scale = min(1.0, clip / (float(norm) + 1e-6)) if clip and "encoder" in parts else 1.0
        for part in parts:
            self.updates[part] += 1
        for name in names:
            part = name.split(".")[0]
            rates = getattr(self.settings, "generator" if part == "prior" else part)
            t, gradient = self.updates[part], scale * gradients[name]
            if rates.optimizer == "adam":
                first, second = self.moments[name]
                first = rates.beta1 * first + (1 - rates.beta1) * gradient
                second = rates.beta2 * second + (1 - rates.beta2) * gradient**2
                self.moments[name] = first, second
                corrected = (second / (1 - rates.beta2**t)).sqrt() + 1e-8
                gradient = first / (1 - rates.beta1**t) / corrected
            gradient = gradient + rates.weight_decay * self.p[name]
            self.p[name] = self.p[name] - self.rate * rates.learning_rate * gradient


def sum_of(values: object) -> Tensor:
    """The sum of scalars."""
    return torch.stack(list(values)).sum()  # type: ignore[call-overload]


def rows_of(batch: Batch) -> list[Row]:
    """The examples in a batch, without padding, start and end tokens."""
    if isinstance(batch, ImageBatch):
        return list(batch.pixels.double())
    return [source[1:n].tolist() for source, n in zip(batch.source, batch.lengths.tolist(), strict=True)]


def labels_of(batch: Batch) -> list[int]:
    """The classes of the examples; empty for unlabelled data."""
    return [] if isinstance(batch, ImageBatch) or batch.labels is None else batch.labels.tolist()
