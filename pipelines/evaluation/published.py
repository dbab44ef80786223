"""Published results, shown beside measured ones for scale. Their data, tokens and classifiers differ from ours."""

PERPLEXITY = (
    {"model": "published, SNLI: real data", "reverse": 27.4},
    {"model": "published, SNLI: language-model samples", "reverse": 90.6},
    {"model": "published, SNLI: AE samples", "reverse": 97.3},
    {"model": "published, SNLI: ARAE samples", "forward": 44.3, "reverse": 82.2},
)
"""SNLI, 100,000 samples (paper, section 6.1). The forward perplexity is from memory, without a source."""

ROBUSTNESS = {
    "published, SNLI: AE": (1.06, 4.51, 6.61, 9.14, 9.97),
    "published, SNLI: ARAE": (2.19, 4.07, 5.39, 6.86, 7.47),
}
"""Reconstruction loss in nats of the original, from the code of the sentence with k = 0 to 4 swaps, SNLI (table 3)."""

TRANSFER = (
    {
        "model": "published, Yelp: Cross-Aligned AE",
        "accuracy": 77.1,
        "self_bleu": 17.75,
        "forward": 65.9,
        "reverse": 124.2,
    },
    {"model": "published, Yelp: AE", "accuracy": 59.3, "self_bleu": 37.28, "forward": 31.9, "reverse": 68.9},
    {
        "model": "published, Yelp: ARAE, lambda 1",
        "accuracy": 73.4,
        "self_bleu": 31.15,
        "forward": 29.7,
        "reverse": 70.1,
    },
    {
        "model": "published, Yelp: ARAE, lambda 10",
        "accuracy": 81.8,
        "self_bleu": 20.18,
        "forward": 27.7,
        "reverse": 77.0,
    },
)
"""Yelp, as reported in the paper (table 4), with its own classifier."""

FEW_LABELS = (
    {"method": "published: supervised", "labels": 28_000, "test": 57.9},
    {"method": "published: supervised", "labels": 59_000, "test": 62.5},
    {"method": "published: supervised", "labels": 120_000, "test": 65.9},
    {"method": "published: + AE", "labels": 28_000, "test": 59.9},
    {"method": "published: + AE", "labels": 59_000, "test": 64.6},
    {"method": "published: + AE", "labels": 120_000, "test": 68.5},
    {"method": "published: + ARAE", "labels": 28_000, "test": 62.5},
    {"method": "published: + ARAE", "labels": 59_000, "test": 66.8},
    {"method": "published: + ARAE", "labels": 120_000, "test": 70.9},
    {"method": "published: DeConv-VAE", "labels": 28_000, "test": 67.2},
    {"method": "published: CS-LVM", "labels": 28_000, "test": 69.6},
)
"""SNLI entailment: test accuracy with few labelled pairs (paper, table 5), and two later methods with 28,000 pairs."""
