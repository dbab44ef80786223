"""Built-in image corpus: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, binarized. Needs no network."""

import numpy as np
from numpy.typing import NDArray

SIZES = {"train": 1297, "validation": 250, "test": 250}


def digits() -> dict[str, NDArray[np.uint8]]:
    """Return split -> pixels[N, 8, 8] of 0 and 1. Grey values 8 to 16 are white. The split is fixed."""
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    white = (load_digits().images >= 8).astype(np.uint8)
    shuffled = white[np.random.default_rng(0).permutation(len(white))]
    assert len(shuffled) == sum(SIZES.values())
    ends = np.cumsum(list(SIZES.values()))[:-1]
    return dict(zip(SIZES, np.split(shuffled, ends), strict=True))
