"""Experiments by name. A preset is a function that returns a whole Experiment; a variant replaces some of its fields.

    grammar, digits                        built in and small: a minute on one core
    grammar-sentiment                      built in, with an attribute to transfer
    snli, yelp, mnist                      recommended settings
    paper-snli, paper-yelp, paper-mnist    published settings
    snli-ae, snli-aae                      baselines for snli
    yelp-markers                           best at transfer: no adversary, attribute markers hidden from the encoder
    yelp-ae, yelp-aligned                  baselines for yelp
    grammar-entailment, snli-entailment    sentence pairs to classify with few labels

Two settings turn any preset into a baseline: `--critic.objective none` is the plain autoencoder, and `--prior.kind
gaussian` the adversarial autoencoder with its fixed prior.
"""

import difflib
from collections.abc import Callable
from dataclasses import fields, replace

from arae_core.settings import (
    ClassifierSettings,
    CodeSettings,
    CriticSettings,
    DecoderSettings,
    EncoderSettings,
    GeneratorSettings,
    HeadSettings,
    VocabularySettings,
)
from arae_core.settings.tree import with_settings
from pipelines.experiment.published_presets import BINARIZED_MNIST, SNLI, YELP, paper_mnist, paper_snli, paper_yelp
from pipelines.experiment.settings import Classification, DataSettings, Experiment


def grammar() -> Experiment:
    """Sentences of the built-in grammar: a small model, a minute on one core.

    At this sampling temperature about as many samples are valid sentences as with greedy decoding, and they cover more
    of the language.
    """
    return Experiment(
        name="grammar",
        epochs=3,
        initialization="remembering",
        temperature=0.5,
        cooldown=0.5,
        vocabulary=VocabularySettings(tokenizer="spaces", size=2000),
        encoder=EncoderSettings(embedding=64, hidden=(128,), pooling="max", adversarial_weight=0.1, learning_rate=4e-3),
        decoder=DecoderSettings(embedding=64, hidden=(128,), learning_rate=4e-3),
        code=CodeSettings(size=128, noise=0.07),
        generator=GeneratorSettings(noise_size=32, hidden=(128, 128), average=0.99, learning_rate=2e-4),
        critic=CriticSettings(hidden=(128, 128), learning_rate=2e-4),
        data=DataSettings(source="grammar", size=46_000),
        evaluate_every=400,
        log_every=50,
    )


def digits() -> Experiment:
    """scikit-learn's 8x8 digits, binarized: a minute on one core."""
    return Experiment(
        name="digits",
        kind="image",
        epochs=100,
        encoder=EncoderSettings(hidden=(128, 64), adversarial_weight=0.1),
        decoder=DecoderSettings(hidden=(64, 128)),
        code=CodeSettings(size=32),
        generator=GeneratorSettings(noise_size=16, hidden=(64, 64), average=0.99, learning_rate=2e-4),
        critic=CriticSettings(hidden=(64, 64), learning_rate=2e-4),
        data=DataSettings(source="digits", columns=("image",)),
        evaluate_every=500,
        log_every=50,
        samples=1000,
    )


def grammar_sentiment() -> Experiment:
    """Sentences of the built-in grammar with a positive or a negative sentiment, for transfer between the two."""
    base = grammar()
    return replace(
        base,
        name="grammar-sentiment",
        epochs=5,
        cooldown=0.0,
        encoder=replace(base.encoder, attribute_weight=0.1),
        data=replace(base.data, label="sentiment", classes=("negative", "positive"), size=60_000),
    )


def snli() -> Experiment:
    """Sentences of SNLI, premises and hypotheses, of 3 to 15 words.

    Changes from `paper_snli`: Adam for the autoencoder; max pooling and open forget gates in the encoder; word dropout
    on its input; constant noise; LayerNorm in generator and critic; generated codes on the unit sphere; samples from
    the generator's moving average. At this sampling temperature samples are about as probable as real sentences;
    greedy ones are more probable and cover less. Weight decay and a cooldown over the second half improve
    reconstruction. The noise costs some reconstruction; it teaches the decoder the gaps between sentences' codes, where
    generated codes lie.
    """
    return Experiment(
        name="snli",
        initialization="remembering",
        temperature=0.9,
        cooldown=0.5,
        encoder=EncoderSettings(
            pooling="max", word_dropout=0.2, adversarial_weight=0.1, learning_rate=2e-3, weight_decay=0.05
        ),
        decoder=DecoderSettings(learning_rate=2e-3, weight_decay=0.05),
        code=CodeSettings(noise=0.1),
        generator=GeneratorSettings(average=0.99, learning_rate=2e-4),
        critic=CriticSettings(learning_rate=2e-4),
        data=SNLI,
        evaluate_every=1000,
        log_every=100,
    )


def yelp() -> Experiment:
    """Sentences of Yelp reviews with their sentiment, already tokenized (Shen et al. 2017).

    Changes from `paper_yelp`: those of `snli` from `paper_snli`; one decoder that reads the class; a smaller lambda_2,
    because at 1 the codes of `grammar_sentiment` carried no information. Less noise than in `snli`, because transfer
    needs good reconstruction. Weight decay and the cooldown reduce overfitting: without them, half as many held-out
    sentences are reconstructed.
    """
    base = snli()
    return replace(
        base,
        name="yelp",
        temperature=0.5,
        vocabulary=VocabularySettings(tokenizer="spaces", size=10_000),
        encoder=EncoderSettings(
            embedding=128,
            hidden=(128,),
            pooling="max",
            word_dropout=0.1,
            adversarial_weight=0.05,
            attribute_weight=0.3,
            learning_rate=4e-3,
            weight_decay=0.1,
        ),
        decoder=DecoderSettings(embedding=128, hidden=(128,), contrast=0.3, learning_rate=4e-3, weight_decay=0.1),
        code=CodeSettings(size=128, noise=0.03),
        generator=replace(base.generator, noise_size=32, hidden=(128, 128)),
        critic=replace(base.critic, hidden=(128, 128)),
        classifier=ClassifierSettings(hidden=(128, 128)),
        data=YELP,
    )


def mnist() -> Experiment:
    """Binarized MNIST, or any other images of one size.

    Changes from `paper_mnist`: gradient penalty instead of clipping, LayerNorm, constant noise, generated codes on the
    unit sphere.
    """
    return Experiment(
        name="mnist",
        kind="image",
        batch_size=100,
        epochs=20,
        encoder=EncoderSettings(hidden=(800, 400), adversarial_weight=0.1),
        decoder=DecoderSettings(hidden=(400, 800, 1000)),
        code=CodeSettings(size=100),
        generator=GeneratorSettings(noise_size=32, hidden=(256, 256), average=0.99, learning_rate=2e-4),
        critic=CriticSettings(hidden=(256, 256), learning_rate=2e-4),
        data=BINARIZED_MNIST,
        evaluate_every=1000,
        log_every=100,
    )


def snli_ae() -> Experiment:
    """The plain autoencoder for `snli`: no adversary. Samples come from a Gaussian fitted to the codes."""
    return with_settings(snli(), {"name": "snli-ae", "critic.objective": "none"})


def snli_aae() -> Experiment:
    """The adversarial autoencoder for `snli`: a fixed Gaussian instead of the learned prior."""
    return with_settings(snli(), {"name": "snli-aae", "prior.kind": "gaussian"})


def grammar_entailment() -> Classification:
    """Entailment, contradiction or neither, for pairs of sentences of the built-in grammar."""
    base = grammar()
    values = {f.name: getattr(base, f.name) for f in fields(Experiment)}
    return Classification(
        **values
        | {
            "name": "grammar-entailment",
            "iterations": 1800,
            "evaluate_every": 100,
            "cooldown": 0.0,
            "encoder": replace(base.encoder, learning_rate=2e-3),
            "decoder": replace(base.decoder, learning_rate=2e-3),
            "data": DataSettings(source="grammar", size=20_000, label="entailment"),
            "head": HeadSettings(hidden=(128,), start=2 / 3, joint=False),
        }
    )


def snli_entailment() -> Classification:
    """Entailment, contradiction or neither, for pairs of SNLI of any length; words after the thirtieth are not read.

    Changes from `snli`: smaller layers, because the encoder learns from thousands of pairs and not from hundreds of
    thousands. The autoencoder is trained first, then the encoder is fine-tuned; joint training was no better. The
    encoder's updates are summed: with separate updates by the critic's gradient, it was worse than a plain
    autoencoder's.
    """
    base = snli()
    values = {f.name: getattr(base, f.name) for f in fields(Experiment)}
    return Classification(
        **values
        | {
            "name": "snli-entailment",
            "longest": 30,
            "iterations": 4500,
            "evaluate_every": 250,
            "temperature": 0.0,
            "cooldown": 0.0,
            "encoder": EncoderSettings(
                embedding=128,
                hidden=(128,),
                pooling="max",
                word_dropout=0.1,
                updates="summed",
                adversarial_weight=0.01,
                learning_rate=4e-3,
            ),
            "decoder": DecoderSettings(embedding=128, hidden=(128,), learning_rate=4e-3),
            "code": CodeSettings(size=128, noise=0.03),
            "generator": replace(base.generator, noise_size=32, hidden=(128, 128)),
            "critic": replace(base.critic, hidden=(128, 128)),
            "data": replace(SNLI, label="label"),
            "head": HeadSettings(dropout=0.3, start=2 / 3, joint=False),
        }
    )


def yelp_ae() -> Experiment:
    """The plain autoencoder for `yelp`: the decoder reads the class, and nothing removes it from the code."""
    return with_settings(yelp(), {"name": "yelp-ae", "critic.objective": "none", "encoder.attribute_weight": 0.0})


def yelp_markers() -> Experiment:
    """The plain autoencoder for `yelp`, twice as wide, with attribute markers hidden from its encoder (Li et al. 2018).

    It had the best transfer of all presets. Its samples come from a Gaussian fitted to the codes.
    """
    changes = {"name": "yelp-markers", "encoder.marker_ratio": 8.0, "decoder.contrast": 1.0, "epochs": 10}
    changes |= {"encoder.weight_decay": 0.15, "decoder.weight_decay": 0.15}
    widths = {"code.size": 256, "encoder.hidden": (256,), "decoder.hidden": (256,)}
    return with_settings(yelp_ae(), changes | widths | {"encoder.embedding": 256, "decoder.embedding": 256})


def yelp_aligned() -> Experiment:
    """The Cross-Aligned autoencoder (Shen et al. 2017) with the layers of `yelp`.

    As in the authors' code, one update follows the sum of both losses. With this weight, the gradient of alignment is a
    third of the autoencoder's.
    """
    changes = {"encoder.updates": "summed", "decoder.alignment_weight": 0.03}
    return with_settings(yelp_ae(), {"name": "yelp-aligned", **changes})


PRESETS: dict[str, Callable[[], Experiment]] = {
    "grammar": grammar,
    "grammar-sentiment": grammar_sentiment,
    "digits": digits,
    "snli": snli,
    "yelp": yelp,
    "mnist": mnist,
    "paper-snli": paper_snli,
    "paper-yelp": paper_yelp,
    "paper-mnist": paper_mnist,
    "snli-ae": snli_ae,
    "snli-aae": snli_aae,
    "yelp-markers": yelp_markers,
    "yelp-ae": yelp_ae,
    "yelp-aligned": yelp_aligned,
    "grammar-entailment": grammar_entailment,
    "snli-entailment": snli_entailment,
}


def preset(name: str) -> Experiment:
    """Return the preset of that name. Raise ValueError with the nearest name and all names."""
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"config must be one of {', '.join(PRESETS)}, got {name!r}{hint}")
    return PRESETS[name]()
