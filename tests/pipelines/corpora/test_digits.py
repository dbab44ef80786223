import numpy as np

from pipelines.corpora.digits import digits


def test_digits_are_split_and_binary() -> None:
    splits = digits()
    assert {split: pixels.shape for split, pixels in splits.items()} == {
        "train": (1297, 8, 8),
        "validation": (250, 8, 8),
        "test": (250, 8, 8),
    }
    for pixels in splits.values():
        assert set(np.unique(pixels)) == {0, 1}
        assert 0.3 < pixels.mean() < 0.35


def test_digits_are_all_of_scikit_learns_and_always_the_same() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    expected = sorted(image.tobytes() for image in (load_digits().images > 7).astype(np.uint8))
    assert sorted(image.tobytes() for pixels in digits().values() for image in pixels) == expected
    assert all(np.array_equal(a, b) for a, b in zip(digits().values(), digits().values(), strict=True))
