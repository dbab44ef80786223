"""Basics of all pictures: an empty figure, images tiled into one picture, and images as text."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


def new_figure(size: tuple[float, float], title: str) -> "Figure":
    """Return an empty figure of size (width, height) in inches. Needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    return figure


def tiled(images: "NDArray[np.uint8]", columns: int | None = None) -> "NDArray[np.uint8]":
    """Tile images uint8[N, H, W] of 0 and 1, N >= 1, into one picture uint8[h, w]: 0 black, 255 white, 128 borders.

    columns: images per row (default: as square as possible).
    """
    import numpy as np

    count, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    picture = np.full((rows * (height + 1) + 1, columns * (width + 1) + 1), 128, np.uint8)
    for i, image in enumerate(images):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        picture[top : top + height, left : left + width] = 255 * image
    return picture


def save_images(path: Path, images: "NDArray[np.uint8]", columns: int | None = None) -> None:
    """Write images uint8[N, H, W] of 0 and 1 to one PNG file, tiled and enlarged."""
    from matplotlib.image import imsave

    zoom = max(1, 112 // images.shape[1])
    picture = tiled(images, columns).repeat(zoom, 0).repeat(zoom, 1)
    imsave(path, picture, cmap="gray", vmin=0, vmax=255, format="png")


def image_text(image: Any) -> str:
    """Return a binary image, uint8[H, W], as text: a line of half blocks for every two rows of pixels."""
    rows = [*image.tolist(), *([[0] * image.shape[1]] if len(image) % 2 else [])]
    blocks = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join("".join(blocks[pair] for pair in zip(*pair_of_rows, strict=True)) for pair_of_rows in pairs)
