"""The paper's Algorithms 1 and 2, one function a step. Each updates its parameters and returns named scalars (tensors).

Symbols: x data, c = enc_phi(x) the code, z noise, c~ = g_theta(z) a code from the prior, f_w the critic, p_psi(x | c)
the decoder, y an attribute, p_u(y | c) its classifier, m the batch size, k the number of critic steps. Shapes: B
examples, this rank's share of m; D numbers in a code. The losses of steps (2) and (3) are the objective's
(`objectives/`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from arae_core.attributes.cross_alignment import cross_alignment_step
from arae_core.data.batch_sampler import BatchSampler
from arae_core.data.batches import Batch, TextBatch, drop_words, to_device, words_in
from arae_core.data.data_spec import TextSpec
from arae_core.losses import classifier_loss, hiding_loss, reconstruction_loss
from arae_core.runtime.parallel import Parallel
from arae_core.training.state import AUTOENCODER, TrainingState

Scalars = dict[str, Tensor]
StepRunner = Callable[..., Scalars]
"""Runs a step: run(step, state, parallel, *inputs) does step(state, parallel, *inputs)."""


def run_eagerly(step: Callable[..., Scalars], *arguments: object) -> Scalars:
    """Call the step. The other runner replays it, see `runtime.cuda_graphs`."""
    return step(*arguments)


def iteration(state: TrainingState, data: BatchSampler, parallel: Parallel, run: StepRunner = run_eagerly) -> Scalars:
    """Do one iteration of Algorithm 1, for labelled data of Algorithm 2, on the batches of `state.step`; advance it."""
    state.cool_down()
    step, settings = state.step, state.settings
    summed = settings.encoder.updates == "summed"
    scalars: Scalars = {}
    if not summed:
        scalars |= run(reconstruction_step, state, parallel, *data.reconstruction_batch(step), state.noise)
    if state.hides_attribute:
        scalars |= run(classifier_step, state, parallel, data.classifier_batch(step))
    if settings.adversarial:
        scalars |= adversarial_steps(state, data, parallel, run)
    if state.hides_attribute:
        scalars |= run(attribute_adversarial_step, state, parallel, data.adversarial_batch(step))
    if state.aligns_decoders:
        scalars |= run(cross_alignment_step, state, parallel, data.adversarial_batch(step))
    if summed:
        scalars |= run(reconstruction_step, state, parallel, *data.reconstruction_batch(step), state.noise)
    state.step += 1
    return scalars


def adversarial_steps(state: TrainingState, data: BatchSampler, parallel: Parallel, run: StepRunner) -> Scalars:
    """Steps (2), if there is a critic, and (3)."""
    step, settings, k = state.step, state.settings, state.settings.critic.steps
    # With a gradient of 0, Adam's momentum would still take a whole step.
    confuses = settings.encoder.adversarial_weight > 0
    scalars: Scalars = {}
    if settings.has_critic and confuses and settings.encoder.adversarial_each_critic_step:
        for batch in split(data.critic_batches(step, k), k):
            scalars |= run(critic_step, state, parallel, batch, 1)
            scalars |= run(encoder_adversarial_step, state, parallel, batch)
    else:
        if settings.has_critic:
            scalars |= run(critic_step, state, parallel, data.critic_batches(step, k), k)
        if confuses:
            scalars |= run(encoder_adversarial_step, state, parallel, data.adversarial_batch(step))
    if "prior" in state.optimizers:
        if state.objective.compares_batches:
            scalars |= run(generator_step, state, parallel, data.critic_batches(step, 1))
        else:
            scalars |= run(generator_step, state, parallel)
    return scalars


def reconstruction_step(
    state: TrainingState, parallel: Parallel, batch: Batch, targets: float | Tensor, noise: float | Tensor
) -> Scalars:
    """(1): phi, psi <- grad of -1/n sum log p(x | c + noise); `word_dropout` makes it a denoising autoencoder.

    targets: n, the tokens or pixels in the batch of all ranks. noise: its standard deviation, as `state.noise`.
    """
    read = write = batch
    if isinstance(batch, TextBatch):
        read = _with_words_dropped(state, batch, state.settings.encoder.word_dropout, parallel)
        write = _with_words_dropped(state, batch, state.settings.decoder.word_dropout, parallel)
    share = parallel.share(state.settings.batch_size)
    with state.autocast():
        output = state.encoder(read)
        code = state.code(output)
        auxiliary = state.code.auxiliary_loss(output, code)
        if state.settings.code.noise > 0:
            drawn = state.normal(state.settings.batch_size, code.shape[1], parallel)
            code = state.code.noised(code, noise * drawn)
        nll = state.decoder.nll(write, code)
    loss = reconstruction = reconstruction_loss(nll, targets, share)
    scalars: Scalars = {"reconstruction_loss": reconstruction.detach()}
    if auxiliary is not None:
        loss = reconstruction + auxiliary
        scalars["code_loss"] = auxiliary.detach()
    return scalars | {"gradient_norm": state.update(AUTOENCODER, loss, parallel, words_in(batch))}


def critic_step(state: TrainingState, parallel: Parallel, batch: Batch, k: int) -> Scalars:
    """(2), k times: w <- grad of the critic's loss on c and c~, then what keeps the critic Lipschitz.

    batch: k batches in one. The step holds phi and theta still, so the codes of all k come from one encoder pass and
    one generator pass. (BatchNorm in one of them normalizes by all k together.)
    """
    m = state.settings.batch_size
    with torch.no_grad():
        with state.autocast():
            real = state.encode_mixed(batch, k)
        real = real.to(state.dtype)
        fake = state.prior(state.normal(m, state.prior.noise_size, parallel, k))
        mixes = state.uniform(m, 1, parallel, k)
    scalars: Scalars = {}
    for c, c_fake, mix in zip(real.chunk(k), fake.chunk(k), mixes.chunk(k), strict=True):
        loss, scalars = state.objective.critic_loss(state.critic, c, c_fake, mix)
        state.update(("critic",), loss, parallel)
        state.objective.after_critic_step(state.critic)
    return scalars | _statistics(real, "real") | _statistics(fake, "fake")


def encoder_adversarial_step(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(3) for the encoder: phi <- grad of lambda_1 times the objective's loss; for a WGAN, mean f(c)."""
    with state.autocast():
        real = state.encode(batch)
    real, compares = real.to(state.dtype), state.objective.compares_batches
    fake = real[:0]
    if compares:
        real = parallel.whole_batch(real, state.settings.batch_size)
        with torch.no_grad():
            fake = parallel.whole_batch(_drawn_codes(state, parallel), state.settings.batch_size)
    loss = state.objective.encoder_loss(_critic(state), real, fake)
    weight = state.settings.encoder.adversarial_weight
    state.update_or_accumulate(("encoder", "code"), weight * loss, parallel, words_in(batch), whole_batch=compares)
    return {"encoder_loss": loss.detach()}


def generator_step(state: TrainingState, parallel: Parallel, batch: Batch | None = None) -> Scalars:
    """(3) for the prior: theta <- grad of the objective's loss; for a WGAN, -mean f(c~).

    batch: only for objectives that compare batches.
    """
    fake = _drawn_codes(state, parallel)
    real = fake[:0]
    if batch is not None:
        fake = parallel.whole_batch(fake, state.settings.batch_size)
        with torch.no_grad(), state.autocast():
            real = state.encode_mixed(batch)
        real = parallel.whole_batch(real.to(state.dtype), state.settings.batch_size)
    loss = state.objective.generator_loss(_critic(state), real, fake)
    state.update(("prior",), loss, parallel, whole_batch=batch is not None)
    state.update_average()
    return {"generator_loss": loss.detach()}


def classifier_step(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(2b): u <- grad of -mean log p_u(y | c)."""
    assert isinstance(batch, TextBatch) and batch.labels is not None
    labels = to_device(batch.labels, state.device)
    with torch.no_grad(), state.autocast():
        code = state.encode(batch)
    logits = state.modules["classifier"](code.to(state.dtype))
    loss = classifier_loss(logits, labels)
    state.update(("classifier",), loss, parallel)
    accuracy = (logits.argmax(1) == labels).to(state.dtype).mean()
    return {"classifier_loss": loss.detach(), "classifier_accuracy": accuracy}


def attribute_adversarial_step(state: TrainingState, parallel: Parallel, batch: Batch) -> Scalars:
    """(3b): phi <- grad of -lambda_2 mean log p_u(1 - y | c), so that the code loses the attribute."""
    assert isinstance(batch, TextBatch) and batch.labels is not None
    with state.autocast():
        code = state.encode(batch)
    loss = hiding_loss(state.modules["classifier"](code.to(state.dtype)), to_device(batch.labels, state.device))
    weight = state.settings.encoder.attribute_weight
    state.update_or_accumulate(("encoder", "code"), weight * loss, parallel, batch.words)
    return {"hiding_loss": loss.detach()}


def split(batch: Batch, parts: int) -> list[Batch]:
    """Split a batch into `parts` consecutive batches of equal size."""
    names = [name for name, value in vars(batch).items() if value is not None]
    pieces = zip(*(getattr(batch, name).chunk(parts) for name in names), strict=True)
    return [type(batch)(**dict(zip(names, piece, strict=True))) for piece in pieces]


def _critic(state: TrainingState) -> Callable[[Tensor], Tensor]:
    """The critic; an objective without one does not call it."""
    return state.critic if "critic" in state.modules else torch.zeros_like


def _drawn_codes(state: TrainingState, parallel: Parallel) -> Tensor:
    """This rank's rows of a batch of codes from the prior, [B, D]."""
    return state.prior(state.normal(state.settings.batch_size, state.prior.noise_size, parallel))


def _statistics(codes: Tensor, name: str) -> Scalars:
    """Mean norm and total variance of codes[B, D]."""
    unbiased = min(1, len(codes) - 1)  # then the mean over ranks estimates what one process would measure
    return {
        f"code_norm_{name}": codes.norm(dim=1).mean(),
        f"code_variance_{name}": codes.var(0, correction=unbiased).sum(),
    }


def _with_words_dropped(state: TrainingState, batch: TextBatch, share: float, parallel: Parallel) -> TextBatch:
    if share == 0:
        return batch
    assert isinstance(state.spec, TextSpec)
    # Drawn for the longest sentence that is allowed: what a rank draws must not depend on the lengths of its own.
    uniform = state.uniform(state.settings.batch_size, state.settings.longest + 1, parallel)
    return drop_words(batch, share, state.spec.unknown, uniform)
