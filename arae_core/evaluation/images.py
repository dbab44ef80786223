"""How good sampled binary images are: precision (do they look real?) and coverage (is all that is real among them?).

Both ask for nearest neighbours on the pixels themselves, where the squared Euclidean distance of two binary images is
the number of pixels in which they differ. A real image's ball reaches to its k-th nearest real neighbour, its border
included (distances are whole numbers, so ties are common; a copy of an image that has k twins still lies in its ball).
The real images are those of the validation split, never of the test split, because models are chosen by the figures.
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Distances = NDArray[np.float32]

NEIGHBOURS = 5
MOST_IMAGES = 2_000
"""Real images, and samples, between which distances are taken; `distinct` and `novel` look at all samples."""


class ImageScorer:
    """Scores samples against images of 0 and 1, uint8[N, ...]. What depends on the real images is made once."""

    def __init__(self, train: Pixels, validation: Pixels, *, seed: int = 0) -> None:
        if len(validation) <= NEIGHBOURS:
            raise ValueError(f"scoring samples needs > {NEIGHBOURS} validation images, got {len(validation)}")
        self.seed = seed
        self.known = _contents(train)
        self.real = _drawn(validation, seed)
        among_real = distances(self.real, self.real)
        # Place 0 of a row in order is the image itself, at distance 0.
        self.radii: Distances = np.partition(among_real, NEIGHBOURS, axis=1)[:, NEIGHBOURS]

    def score(self, samples: Pixels) -> dict[str, float]:
        """The figures of the samples, each from 0 to 1, 1 the best.

        precision       share of the samples in some real image's ball (Kynkaanniemi et al. 2019, eq. 1 and 2)
        coverage        share of the real images with a sample in their ball (Naeem et al. 2020, section 3.2)
        generation_f1   their harmonic mean: the figure that chooses a model
        distinct        share of the samples that differ from one another
        novel           share of the distinct samples that the training split does not hold

        Raises ValueError where there are no samples.
        """
        if not len(samples):
            raise ValueError("samples must be >= 1 to be scored, got 0")
        inside = distances(_drawn(samples, self.seed), self.real) <= self.radii
        precision, coverage = float(inside.any(axis=1).mean()), float(inside.any(axis=0).mean())
        contents = _contents(samples)
        return {
            "generation_f1": 2 * precision * coverage / (precision + coverage) if precision else 0.0,
            "precision": precision,
            "coverage": coverage,
            "distinct": len(contents) / len(samples),
            "novel": len(contents - self.known) / len(contents),
        }


def distances(a: Pixels, b: Pixels) -> Distances:
    """How many pixels differ, float32[len(a), len(b)], of binary images; exact below 2**24 pixels."""
    first, second = (images.reshape(len(images), -1).astype(np.float32) for images in (a, b))
    inner: Distances = first @ second.T
    inner *= -2
    inner += first.sum(axis=1)[:, None]
    inner += second.sum(axis=1)
    return inner


def _drawn(images: Pixels, seed: int) -> Pixels:
    """At most MOST_IMAGES of the images, the same ones whenever the seed and their number are the same."""
    if len(images) <= MOST_IMAGES:
        return images
    return images[np.sort(np.random.default_rng(seed).choice(len(images), MOST_IMAGES, replace=False))]


def _contents(images: Pixels) -> set[bytes]:
    return {row.tobytes() for row in np.packbits(images.reshape(len(images), -1), axis=1)}
