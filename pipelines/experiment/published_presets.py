"""The published experiments as presets: paper-snli, paper-yelp, paper-mnist; and the data that other presets share."""

from dataclasses import replace
from typing import Any

from arae_core.settings import (
    ClassifierSettings,
    CodeSettings,
    CriticSettings,
    DecoderSettings,
    EncoderSettings,
    GeneratorSettings,
    VocabularySettings,
)
from pipelines.experiment.settings import DataSettings, Experiment

SNLI = DataSettings(source="stanfordnlp/snli", columns=("premise", "hypothesis"), shortest=3)
YELP = DataSettings(source="./data/yelp", columns=("text",), label="label")
BINARIZED_MNIST = DataSettings(source="ylecun/mnist", columns=("image",))


def paper_snli() -> Experiment:
    """SNLI as published: sizes, optimizers and rates of the last release (2018).

    Differences between the sources, and from this preset:

    - Paper and first release (2017): weights clipped at 0.01, generator 5e-5, critic 1e-5, beta1 0.9, noise 0.2 with
      decay 0.995, the critic's gradient scaled to 0.01 of the reconstruction's, more adversarial rounds an iteration
      from epochs 2, 4 and 6 on. Last release: gradient penalty 1, both rates 1e-4, beta1 0.5, noise 0.05 with decay
      0.9995, lambda 0.1, one round. Longest sentence: 30 words in the first release, 15 in the paper and the last.
    - The releases average the scores inside the critic, so their penalty applies to the mean's gradient and shrinks
      with the batch. Here it applies to each sample's gradient (Gulrajani et al. 2017), and the critic has no
      BatchNorm, which mixes samples.
    - The releases use SNLI's own tokenization, keep repeated sentences, train on the development set and select on the
      test set. Here the sentences are those of `snli`, so that the two presets can be compared.
    """
    adam: dict[str, Any] = {"learning_rate": 1e-4, "beta1": 0.5}
    sgd: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1.0}
    return Experiment(
        name="paper-snli",
        batch_size=64,
        epochs=15,
        longest=15,
        gradient_clip=1.0,
        precision="float32",
        initialization="released",
        vocabulary=VocabularySettings(size=11_000),
        encoder=EncoderSettings(embedding=300, hidden=(300,), adversarial_weight=0.1, **sgd),
        decoder=DecoderSettings(embedding=300, hidden=(300,), **sgd),
        code=CodeSettings(size=300, noise=0.05, noise_decay=0.9995),
        generator=GeneratorSettings(noise_size=100, hidden=(300, 300), normalization="batch", output="linear", **adam),
        critic=CriticSettings(
            objective="wgan-gp", steps=5, penalty=1.0, hidden=(300, 300), normalization="none", **adam
        ),
        data=SNLI,
        evaluate_every=1000,
        log_every=100,
    )


def paper_yelp() -> Experiment:
    """Transfer of sentiment as published: the last release's Yelp settings (2018).

    Differences from the release:

    - As in `paper_snli`, the critic scores each sample and has no BatchNorm. The classifier keeps its BatchNorm.
    - The encoder's adversarial steps use both classes equally; the released script used one class only.
    - lambda_2 is 1, as released. The paper's other row has 10 (`--encoder.attribute_weight 10`).
    """
    base = paper_snli()
    return replace(
        base,
        name="paper-yelp",
        epochs=25,
        longest=25,
        vocabulary=VocabularySettings(tokenizer="spaces", size=30_000),
        encoder=replace(base.encoder, embedding=128, hidden=(128,), adversarial_weight=0.01, attribute_weight=1.0),
        decoder=replace(base.decoder, embedding=128, hidden=(128,), conditioning="separate"),
        code=replace(base.code, size=128, noise=0.1),
        generator=replace(base.generator, noise_size=32, hidden=(128, 128)),
        critic=replace(base.critic, penalty=0.1, hidden=(128, 128)),
        classifier=ClassifierSettings(hidden=(128, 128), normalization="batch", learning_rate=1e-4, beta1=0.5),
        data=YELP,
    )


def paper_mnist() -> Experiment:
    """Binarized MNIST as published, in Lua (2017; there is no later release).

    - Like the release, the default `data.source` thresholds grey values at one half. For the fixed binarized MNIST that
      papers compare on, in which every pixel was drawn once, set `data.source` to its folder.
    - The release's 100 epochs have 100 iterations each.
    """
    return Experiment(
        name="paper-mnist",
        kind="image",
        batch_size=100,
        iterations=10_000,
        gradient_clip=0.0,
        precision="float32",
        initialization="released",
        encoder=EncoderSettings(
            hidden=(800, 400),
            normalization="batch",
            adversarial_weight=0.2,
            adversarial_each_critic_step=True,
            learning_rate=5e-4,
        ),
        decoder=DecoderSettings(
            hidden=(400, 800, 1000),
            normalization="batch",
            logits_per_pixel=2,
            learning_rate=5e-4,
        ),
        code=CodeSettings(size=100, noise=0.4, noise_decay=0.99),
        generator=GeneratorSettings(
            noise_size=32,
            hidden=(64, 100, 150),
            normalization="batch",
            output="tanh",
            learning_rate=5e-4,
            beta1=0.9,
        ),
        critic=CriticSettings(
            objective="wgan-clip",
            steps=10,
            clip=0.05,
            hidden=(100, 60, 20),
            normalization="batch",
            learning_rate=5e-5,
            beta1=0.9,
        ),
        data=BINARIZED_MNIST,
        evaluate_every=1000,
        log_every=100,
    )
