"""Which settings have no effect, given the others, and why."""

from arae_core.settings import NORMALIZED, TOKENIZERS, Settings

OF_CLASSES = (
    "encoder.marker_ratio",
    "encoder.attribute_weight",
    "decoder.conditioning",
    "decoder.attribute_embedding",
    "decoder.contrast",
    "decoder.alignment_weight",
    "classifier.*",
)
"""Settings of Algorithm 2 alone."""


def ignored(settings: Settings, *, classes: bool = True) -> dict[str, str]:
    """Dotted names (a trailing * stands for a whole part) that these settings make irrelevant -> why, which begins with
    the setting that does: what that one itself is always counts. classes: whether the data have any."""
    why: dict[str, str] = {}
    hides = classes and settings.kind == "text" and settings.encoder.attribute_weight > 0
    aligns = classes and settings.kind == "text" and settings.decoder.alignment_weight > 0
    if settings.kind == "image":
        for name in (
            "vocabulary.*",
            "longest",
            "encoder.embedding",
            "encoder.pooling",
            "encoder.word_dropout",
            "decoder.embedding",
            "decoder.word_dropout",
            *OF_CLASSES,
        ):
            why[name] = "kind is image"
        if settings.initialization == "remembering" or not settings.adversarial:
            why["initialization"] = "kind is image"
    else:
        why["decoder.logits_per_pixel"] = "kind is text"
        if settings.vocabulary.tokenizer not in TOKENIZERS:
            why["vocabulary.size"] = why["vocabulary.lowercase"] = "vocabulary.tokenizer is a pretrained one"
    for part in NORMALIZED:
        if reason := settings.why_not_normalized(part):
            why[f"{part}.normalization"] = reason
    if settings.iterations:
        why["epochs"] = f"iterations is {settings.iterations}"
    if not settings.adversarial:
        for name in ("generator.*", "critic.*", "encoder.adversarial_weight", "encoder.adversarial_each_critic_step"):
            why[name] = "critic.objective is none"
    elif settings.generator.kind == "gaussian":
        why["generator.*"] = "generator.kind is gaussian"
    confuses = settings.adversarial and settings.encoder.adversarial_weight > 0
    alone = "encoder.adversarial_weight is 0" if settings.adversarial else "critic.objective is none"
    if not confuses:
        why["encoder.adversarial_each_critic_step"] = alone
    if not settings.adversarial and not hides and not aligns:  # step (1) alone trains anything
        why["encoder.updates"] = alone
    if settings.critic.objective != "wgan-gp":
        why["critic.penalty"] = f"critic.objective is {settings.critic.objective}"
    if settings.critic.objective != "wgan-clip":
        why["critic.clip"] = f"critic.objective is {settings.critic.objective}"
    if not hides:  # cross-alignment has but the classifier's optimizer
        for name in ("classifier.hidden", "classifier.normalization") if aligns else ("classifier.*",):
            why[name] = "encoder.attribute_weight is 0"
    if settings.decoder.conditioning == "separate":
        why["decoder.attribute_embedding"] = "decoder.conditioning is separate"
    if settings.code.noise == 0:
        why["code.noise_decay"] = "code.noise is 0"
    for part in ("encoder", "decoder", "generator", "critic", "classifier"):
        if getattr(settings, part).optimizer != "adam":
            why[f"{part}.beta1"] = why[f"{part}.beta2"] = f"{part}.optimizer is {getattr(settings, part).optimizer}"
    return why
