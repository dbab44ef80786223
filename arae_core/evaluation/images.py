"""Quality of sampled binary images: precision (fidelity) and coverage (diversity).

Both are nearest-neighbour metrics on raw pixels, where the squared Euclidean distance of two binary images is the
number of pixels that differ. The ball of a real image has the distance to its k-th nearest real neighbour as radius
(k = NEIGHBOURS, the image itself excluded) and includes its boundary: distances are integers, so ties are common, and a
copy of an image with k duplicates must still lie in its ball. The real images are the validation split, never the test
split, because these metrics select models.

References: improved precision, Kynkaanniemi et al. 2019 (https://arxiv.org/abs/1904.06991); coverage, Naeem et al. 2020
(https://arxiv.org/abs/2002.09797).
"""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Distances = NDArray[np.float32]

NEIGHBOURS = 5
"""k, the neighbour whose distance is the radius of a ball."""
MAX_IMAGES = 2_000
"""Maximum number of real images, and of samples, for distances. `distinct` and `novel` use all samples."""


class ImageScorer:
    """Scores sampled images against real ones, both uint8[N, ...] with values 0 and 1.

    Everything that depends only on the real images is computed once. Raise ValueError unless there are more than
    NEIGHBOURS validation images.
    """

    def __init__(self, train: Pixels, validation: Pixels, *, seed: int = 0) -> None:
        if len(validation) <= NEIGHBOURS:
            raise ValueError(f"scoring samples needs > {NEIGHBOURS} validation images, got {len(validation)}")
        self.seed = seed
        self.known = _unique_images(train)
        self.real = _subsample(validation, seed)
        among_real = distances(self.real, self.real)
        # The nearest entry of each row is the image itself, at distance 0.
        self.radii: Distances = np.partition(among_real, NEIGHBOURS, axis=1)[:, NEIGHBOURS]

    def score(self, samples: Pixels) -> dict[str, float]:
        """Return the metrics of sampled images, each from 0 to 1. Higher is better.

        precision       share of the samples that lie in the ball of any real image (Kynkaanniemi et al., eq. 1 and 2)
        coverage        share of the real images whose ball contains a sample (Naeem et al., section 3.2)
        generation_f1   harmonic mean of precision and coverage, the model selection metric; 0 if both are 0
        distinct        number of distinct samples / number of samples
        novel           share of the distinct samples that do not occur in the training split

        Raise ValueError if there are no samples.
        """
        if not len(samples):
            raise ValueError("samples must be >= 1 to be scored, got 0")
        inside = distances(_subsample(samples, self.seed), self.real) <= self.radii
        precision, coverage = float(inside.any(axis=1).mean()), float(inside.any(axis=0).mean())
        distinct = _unique_images(samples)
        return {
            "generation_f1": 2 * precision * coverage / (precision + coverage) if precision else 0.0,
            "precision": precision,
            "coverage": coverage,
            "distinct": len(distinct) / len(samples),
            "novel": len(distinct - self.known) / len(distinct),
        }


def distances(a: Pixels, b: Pixels) -> Distances:
    """Return the number of pixels that differ between binary images, float32[len(a), len(b)].

    Exact for images of fewer than 2**24 pixels.
    """
    first, second = (images.reshape(len(images), -1).astype(np.float32) for images in (a, b))
    inner: Distances = first @ second.T
    inner *= -2
    inner += first.sum(axis=1)[:, None]
    inner += second.sum(axis=1)
    return inner


def _subsample(images: Pixels, seed: int) -> Pixels:
    """Draw at most MAX_IMAGES images without replacement, determined by the seed and the number of images."""
    if len(images) <= MAX_IMAGES:
        return images
    return images[np.sort(np.random.default_rng(seed).choice(len(images), MAX_IMAGES, replace=False))]


def _unique_images(images: Pixels) -> set[bytes]:
    return {row.tobytes() for row in np.packbits(images.reshape(len(images), -1), axis=1)}
