"""The encoder and decoder of images: pixels as independent Bernoullis."""

import pytest
import torch
from torch.nn import functional as F

from arae_core.codecs.mlp import ImageDecoder, ImageEncoder
from arae_core.data.batches import ImageBatch
from tests.arae_core.small import IMAGE, image_settings, images

PIXELS = torch.from_numpy(images(11).pixels.astype("float64"))


def test_codes_lie_on_the_unit_sphere_and_come_one_by_one() -> None:
    encoder = ImageEncoder(image_settings(), IMAGE).double()
    codes = encoder(ImageBatch(PIXELS))
    assert codes.shape == (11, 7)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(11, dtype=torch.float64))
    for pixels, code in zip(PIXELS, codes, strict=True):
        torch.testing.assert_close(encoder(ImageBatch(pixels[None]))[0], code)
    mixed = encoder.encode_mixed(ImageBatch(PIXELS), 3)
    assert torch.equal(mixed, codes) and not mixed.requires_grad


def test_codes_are_not_scaled_where_the_space_is_unbounded() -> None:
    encoder = ImageEncoder(image_settings({"code.kind": "euclidean"}), IMAGE).double()
    assert torch.equal(encoder(ImageBatch(PIXELS)), encoder.layers(PIXELS * 2 - 1))


@pytest.mark.parametrize("logits_per_pixel", [1, 2])
def test_nll_is_the_sum_over_pixels(logits_per_pixel: int) -> None:
    decoder = ImageDecoder(image_settings({"decoder.logits_per_pixel": logits_per_pixel}), IMAGE).double()
    code = torch.randn(11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw = decoder.layers(code)
    if logits_per_pixel == 1:
        chance = raw.sigmoid()
        expected = -(PIXELS * chance.log() + (1 - PIXELS) * (1 - chance).log()).sum()
    else:
        expected = F.cross_entropy(raw.reshape(-1, 2), PIXELS.long().flatten(), reduction="sum")
    torch.testing.assert_close(decoder.nll(ImageBatch(PIXELS), code), expected)


def test_score_counts_pixels_on_the_right_side() -> None:
    decoder = ImageDecoder(image_settings(), IMAGE).double()
    code = torch.randn(11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nll, right, count = decoder.score(ImageBatch(PIXELS), code)
    guess = (decoder(code).sigmoid() > 0.5).double()
    assert count == 11 * 15
    assert int(right) == int((guess == PIXELS).sum())
    torch.testing.assert_close(nll, decoder.nll(ImageBatch(PIXELS), code))
