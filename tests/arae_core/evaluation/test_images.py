"""Precision and coverage against loops over single images, and in simple cases."""

import numpy as np
import pytest

from arae_core.evaluation import images
from arae_core.evaluation.images import NEIGHBOURS, ImageScorer, Pixels


def bars(count: int, seed: int, height: int = 7, width: int = 11) -> Pixels:
    """Images of one vertical bar each, at a random position, with some pixels flipped."""
    rng = np.random.default_rng(seed)
    pixels = rng.random((count, height, width)) < 0.03
    for image, left, thick in zip(pixels, rng.integers(0, width - 3, count), rng.integers(1, 4, count), strict=True):
        image[:, left : left + thick] ^= True
    return pixels.astype(np.uint8)


def by_loops(real: Pixels, samples: Pixels) -> tuple[float, float]:
    def differing(a: Pixels, b: Pixels) -> int:
        return sum(int(x != y) for x, y in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))

    radii = []
    for i, image in enumerate(real):
        others = sorted(differing(image, other) for j, other in enumerate(real) if j != i)
        radii.append(others[NEIGHBOURS - 1])
    inside = [[differing(sample, image) <= r for image, r in zip(real, radii, strict=True)] for sample in samples]
    precision = sum(any(row) for row in inside) / len(samples)
    return precision, sum(any(column) for column in zip(*inside, strict=True)) / len(real)


def test_agrees_with_loops() -> None:
    crosses, inverted = bars(6, seed=3) ^ bars(6, seed=4), bars(4, seed=5) ^ 1
    real, samples = bars(43, seed=1), np.concatenate([bars(13, seed=2), crosses, inverted])
    score = ImageScorer(bars(3, seed=6), real).score(samples)
    precision, coverage = by_loops(real, samples)
    assert 0.2 < precision < 0.9 and 0.2 < coverage < 0.9, "the case must not be extreme"
    assert (score["precision"], score["coverage"]) == (precision, coverage)
    assert score["generation_f1"] == pytest.approx(2 / (1 / precision + 1 / coverage))


def test_real_images_score_well_and_noise_badly() -> None:
    scorer = ImageScorer(bars(307, seed=8), bars(211, seed=9))
    held_out = scorer.score(bars(211, seed=10))
    assert held_out["generation_f1"] > 0.9
    noise = np.random.default_rng(11).integers(0, 2, (211, 7, 11), dtype=np.uint8)
    assert scorer.score(noise)["generation_f1"] == 0
    one = scorer.score(np.repeat(bars(1, seed=10), 211, axis=0))
    assert one["precision"] in (0, 1) and one["coverage"] < 0.2
    assert one["generation_f1"] < held_out["generation_f1"] / 2


def test_distinct_and_novel() -> None:
    train = bars(31, seed=12)
    samples = np.concatenate([train[:6], train[:6], 1 - train[:2]])
    score = ImageScorer(train, bars(17, seed=13)).score(samples)
    assert (score["distinct"], score["novel"]) == (8 / 14, 2 / 8)


def test_copies_lie_in_balls_of_radius_zero() -> None:
    copies = np.repeat(bars(3, seed=14), NEIGHBOURS + 1, axis=0)
    score = ImageScorer(copies, copies).score(copies[:: NEIGHBOURS + 1])
    assert score["precision"] == score["coverage"] == 1


def test_many_images_are_subsampled_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGES", 19)
    validation, samples = bars(101, seed=15), bars(103, seed=16)
    scorer, again, other = (ImageScorer(samples, validation, seed=seed) for seed in (1, 1, 2))
    assert len(scorer.real) == len({image.tobytes() for image in scorer.real}) == 19
    assert scorer.score(samples) == scorer.score(samples) == again.score(samples)
    assert not np.array_equal(scorer.real, other.real)


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="> 5 validation images, got 5"):
        ImageScorer(bars(3, seed=17), bars(5, seed=18))
    with pytest.raises(ValueError, match="samples must be >= 1"):
        ImageScorer(bars(3, seed=17), bars(7, seed=18)).score(bars(0, seed=19))
