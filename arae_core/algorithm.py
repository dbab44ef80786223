"""The paper's Algorithms 1 and 2, one function a step. Each updates its parameters and returns named scalars (tensors).

Symbols: x data, c = enc_phi(x) the code, z noise, c~ = g_theta(z) a generated code, f_w the critic, p_psi(x | c) the
decoder, y an attribute, p_u(y | c) its classifier, m the batch size, k the critic's steps. Shapes: B examples, this
rank's share of m, D numbers in a code.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from arae_core.attributes.cross_alignment import align
from arae_core.codecs.lstm import corrupted
from arae_core.data.batch_sampler import Feed
from arae_core.data.batches import Batch, TextBatch, to_device
from arae_core.data.data_spec import TextSpec
from arae_core.losses import (
    classifier_loss,
    critic_loss,
    encoder_loss,
    generator_loss,
    gradient_penalty,
    hiding_loss,
    reconstruction_loss,
)
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import TrainingState

Scalars = dict[str, Tensor]
Perform = Callable[..., Scalars]
"""How a step is done: perform(step, state, parallel, *what it works on) does step(state, parallel, *the same)."""


def at_once(step: Callable[..., Scalars], *arguments: object) -> Scalars:
    """Call the step. The other way is to play it back (`capture.Captured`)."""
    return step(*arguments)


def iteration(state: TrainingState, feed: Feed, parallel: Parallel, perform: Perform = at_once) -> Scalars:
    """One iteration on the batches of `state.step`, which it advances: Algorithm 1, of labelled data Algorithm 2."""
    state.cool_down()
    step, k = state.step, state.settings.critic.steps
    summed = state.settings.encoder.updates == "summed"
    confuses = state.settings.encoder.adversarial_weight > 0
    scalars: Scalars = {}
    if not summed:
        scalars |= perform(reconstruct, state, parallel, *feed.reconstruct(step), state.noise)
    if state.hides_attribute:
        scalars |= perform(classify, state, parallel, feed.classify(step))
    if state.settings.adversarial:
        batch = feed.criticise(step, k)
        if confuses and state.settings.encoder.adversarial_each_critic_step:
            for part in split(batch, k):
                scalars |= perform(criticise, state, parallel, part, 1)
                scalars |= perform(confuse_encoder, state, parallel, part)
        else:
            scalars |= perform(criticise, state, parallel, batch, k)
            if confuses:  # of a gradient of 0, Adam's momentum would make a whole step
                scalars |= perform(confuse_encoder, state, parallel, feed.confuse(step))
        scalars |= perform(confuse_generator, state, parallel)
    if state.hides_attribute:
        scalars |= perform(hide, state, parallel, feed.confuse(step))
    if state.aligns_decoders:
        scalars |= perform(align, state, parallel, feed.confuse(step))
    if summed:
        scalars |= perform(reconstruct, state, parallel, *feed.reconstruct(step), state.noise)
    state.step += 1
    return scalars


def reconstruct(
    state: TrainingState, parallel: Parallel, batch: Batch, targets: float | Tensor, noise: float | Tensor
) -> Scalars:
    """(1): phi, psi <- grad of -1/n sum log p(x | c + noise), the encoder's input denoised where word_dropout says so.

    targets: n, the tokens or pixels in the whole batch of all ranks. noise: its standard deviation, as `state.noise`.
    """
    read = write = batch
    if isinstance(batch, TextBatch):
        read = _with_words_dropped(state, batch, state.settings.encoder.word_dropout, parallel)
        write = _with_words_dropped(state, batch, state.settings.decoder.word_dropout, parallel)
    with state.autocast():
        code = state.encoder(read)
        if state.settings.code.noise > 0:
            code = code + noise * state.normal(state.settings.batch_size, code.shape[1], parallel)
        nll = state.decoder.nll(write, code)
    loss = reconstruction_loss(nll, targets, parallel.share(state.settings.batch_size))
    norm = state.update(("encoder", "decoder"), loss, parallel, words_of(batch))
    return {"reconstruction_loss": loss.detach(), "gradient_norm": norm}


def criticise(state: TrainingState, parallel: Parallel, batch: Batch, k: int) -> Scalars:
    """(2), k times: w <- grad of -mean f(c) + mean f(c~), f kept Lipschitz by a penalty or by clipping its weights.

    batch: k batches in one. The step holds phi and theta still, so the codes of all k come from one encoder pass and
    one generator pass. (BatchNorm in one of them normalises by all k together.)
    """
    settings, m = state.settings.critic, state.settings.batch_size
    with torch.no_grad():
        with state.autocast():
            real = state.encoder.encode_mixed(batch, k)
        real = real.to(state.dtype)
        fake = state.generator(state.normal(m, state.generator.noise_size, parallel, k))
        mixes = state.uniform(m, 1, parallel, k)
    scalars: Scalars = {}
    for c, c_fake, mix in zip(real.chunk(k), fake.chunk(k), mixes.chunk(k), strict=True):
        # Not in one pass: of a unit that is on for all codes the two gradients cancel exactly, and of what rounding
        # left of them Adam would make whole steps.
        loss = critic_loss(state.critic(c), state.critic(c_fake))
        scalars = {"distance": -loss.detach()}
        if settings.objective == "wgan-gp":
            penalty = gradient_penalty(state.critic, c, c_fake, mix)
            loss = loss + settings.penalty * penalty
            scalars["gradient_penalty"] = penalty.detach()
        state.update(("critic",), loss, parallel)
        if settings.objective == "wgan-clip":
            with torch.no_grad():
                for weight in state.critic.parameters():
                    weight.clamp_(-settings.clip, settings.clip)
    norms = {"code_norm_real": real.norm(dim=1).mean(), "code_norm_fake": fake.norm(dim=1).mean()}
    unbiased = min(1, len(real) - 1)  # so that a mean over ranks is that of one process, but for chance
    spread = {
        "code_variance_real": real.var(0, correction=unbiased).sum(),
        "code_variance_fake": fake.var(0, correction=unbiased).sum(),
    }
    return scalars | norms | spread


def confuse_encoder(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(3) for phi: phi <- grad of lambda_1 mean f(c)."""
    with state.autocast():
        code = state.encoder(batch)
    loss = encoder_loss(state.critic(code.to(state.dtype)))
    state.add(("encoder",), state.settings.encoder.adversarial_weight * loss, parallel, words_of(batch))
    return {"encoder_loss": loss.detach()}


def confuse_generator(state: TrainingState, parallel: Parallel) -> Scalars:
    """(3) for theta: theta <- grad of -mean f(c~). A fixed prior (AAE) has nothing to learn."""
    if not list(state.generator.parameters()):
        return {}
    noise = state.normal(state.settings.batch_size, state.generator.noise_size, parallel)
    loss = generator_loss(state.critic(state.generator(noise)))
    state.update(("generator",), loss, parallel)
    state.update_average()
    return {"generator_loss": loss.detach()}


def classify(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(2b): u <- grad of -mean log p_u(y | c)."""
    assert isinstance(batch, TextBatch) and batch.labels is not None
    labels = to_device(batch.labels, state.device)
    with torch.no_grad(), state.autocast():
        code = state.encoder(batch)
    logits = state.modules["classifier"](code.to(state.dtype))
    loss = classifier_loss(logits, labels)
    state.update(("classifier",), loss, parallel)
    return {
        "classifier_loss": loss.detach(),
        "classifier_accuracy": (logits.argmax(1) == labels).to(state.dtype).mean(),
    }


def hide(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(3b): phi <- grad of -lambda_2 mean log p_u(1 - y | c), the attribute's part of the code confused."""
    assert isinstance(batch, TextBatch) and batch.labels is not None
    with state.autocast():
        code = state.encoder(batch)
    loss = hiding_loss(state.modules["classifier"](code.to(state.dtype)), to_device(batch.labels, state.device))
    state.add(("encoder",), state.settings.encoder.attribute_weight * loss, parallel, batch.words)
    return {"hiding_loss": loss.detach()}


def words_of(batch: Batch) -> Tensor | None:
    """See TextBatch."""
    return batch.words if isinstance(batch, TextBatch) else None


def split(batch: Batch, parts: int) -> list[Batch]:
    """`batch` as `parts` consecutive batches of equal size."""
    names = [name for name, value in vars(batch).items() if value is not None]
    pieces = zip(*(getattr(batch, name).chunk(parts) for name in names), strict=True)
    return [type(batch)(**dict(zip(names, piece, strict=True))) for piece in pieces]


def _with_words_dropped(state: TrainingState, batch: TextBatch, share: float, parallel: Parallel) -> TextBatch:
    if share == 0:
        return batch
    assert isinstance(state.spec, TextSpec)
    # drawn for the longest sentence there may be: what one rank draws does not depend on the lengths that it has
    uniform = state.uniform(state.settings.batch_size, state.settings.longest + 1, parallel)
    return corrupted(batch, share, state.spec.unknown, uniform)
