import dataclasses

import pytest

from arae_core.settings.tree import flatten
from pipelines.experiment.presets import PRESETS, preset, snli


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_bears_its_name(name: str) -> None:
    assert preset(name).name == name


def test_presets_differ() -> None:
    flat = [{k: v for k, v in flatten(preset(name)).items() if k != "name"} for name in PRESETS]
    assert all(a != b for i, a in enumerate(flat) for b in flat[:i])


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"config must be one of grammar, .*, got 'paper-snil'; did you mean paper-snli\?"
    ):
        preset("paper-snil")


def test_paper_snli_is_the_last_release() -> None:
    """The defaults of the released lang/run_snli.py, commit ee6b50b."""
    p = preset("paper-snli")
    assert (p.batch_size, p.epochs, p.longest, p.gradient_clip, p.vocabulary.size) == (64, 15, 15, 1.0, 11_000)
    assert p.vocabulary.lowercase
    assert (p.encoder.embedding, p.encoder.hidden, p.decoder.hidden, p.code.size) == (300, (300,), (300,), 300)
    assert p.encoder.word_dropout == p.decoder.word_dropout == 0
    assert (p.code.noise, p.code.noise_decay) == (0.05, 0.9995)
    assert (p.generator.noise_size, p.generator.hidden, p.critic.hidden) == (100, (300, 300), (300, 300))
    assert (p.generator.normalization, p.generator.output, p.generator.average) == ("batch", "linear", 0)
    assert (p.critic.objective, p.critic.steps, p.critic.penalty) == ("wgan-gp", 5, 1.0)
    assert p.encoder.adversarial_weight == 0.1
    for part in (p.encoder, p.decoder):
        assert (part.optimizer, part.learning_rate) == ("sgd", 1.0)
    for adversary in (p.generator, p.critic):
        assert (adversary.optimizer, adversary.learning_rate, adversary.beta1) == ("adam", 1e-4, 0.5)


def test_paper_mnist_is_the_release() -> None:
    """The defaults of the released bmnist/main.lua, commit ee6b50b."""
    p = preset("paper-mnist")
    assert (p.kind, p.batch_size, p.iterations, p.gradient_clip) == ("image", 100, 100 * 100, 0)
    assert (p.encoder.hidden, p.decoder.hidden, p.code.size) == ((800, 400), (400, 800, 1000), 100)
    assert (p.encoder.normalization, p.decoder.normalization, p.decoder.logits_per_pixel) == ("batch", "batch", 2)
    assert (p.generator.noise_size, p.generator.hidden, p.generator.output) == (32, (64, 100, 150), "tanh")
    assert (p.critic.objective, p.critic.clip, p.critic.steps, p.critic.hidden) == (
        "wgan-clip",
        0.05,
        10,
        (100, 60, 20),
    )
    assert (p.code.noise, p.code.noise_decay) == (0.4, 0.99)
    assert (p.encoder.adversarial_weight, p.encoder.adversarial_each_critic_step) == (0.2, True)
    rates = [part.learning_rate for part in (p.encoder, p.decoder, p.generator, p.critic)]
    assert rates == [5e-4, 5e-4, 5e-4, 5e-5]
    assert {part.beta1 for part in (p.encoder, p.decoder, p.generator, p.critic)} == {0.9}


def test_baselines_are_snli_but_for_one_setting() -> None:
    ours = flatten(snli())
    for name, setting in (("snli-ae", "critic.objective"), ("snli-aae", "prior.kind")):
        flat = flatten(preset(name))
        assert {key for key in flat if flat[key] != ours[key]} == {"name", setting}


def test_presets_are_made_afresh() -> None:
    assert preset("grammar") is not preset("grammar")
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset("grammar").epochs = 3  # type: ignore[misc]
