"""MLP encoder and decoder of images, with pixels as independent Bernoulli variables."""

import pytest
import torch
from torch.nn import functional as F

from arae_core.codecs.mlp import MLPDecoder, MLPEncoder
from arae_core.data.batches import ImageBatch
from tests.arae_core.small import IMAGE, image_settings, images

PIXELS = torch.from_numpy(images(11).pixels.astype("float64"))


def test_images_are_encoded_one_by_one() -> None:
    encoder = MLPEncoder(image_settings(), IMAGE).double()
    output = encoder(ImageBatch(PIXELS))
    torch.testing.assert_close(output, encoder.layers(PIXELS * 2 - 1))
    torch.testing.assert_close(torch.cat([encoder(ImageBatch(pixels[None])) for pixels in PIXELS]), output)
    mixed = encoder.encode_mixed(ImageBatch(PIXELS), 3)
    assert torch.equal(mixed, output) and not mixed.requires_grad


@pytest.mark.parametrize("logits_per_pixel", [1, 2])
def test_nll_is_the_sum_over_pixels(logits_per_pixel: int) -> None:
    decoder = MLPDecoder(image_settings({"decoder.logits_per_pixel": logits_per_pixel}), IMAGE).double()
    code = torch.randn(11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    raw = decoder.layers(code)
    if logits_per_pixel == 1:
        chance = raw.sigmoid()
        expected = -(PIXELS * chance.log() + (1 - PIXELS) * (1 - chance).log()).sum()
    else:
        expected = F.cross_entropy(raw.reshape(-1, 2), PIXELS.long().flatten(), reduction="sum")
    torch.testing.assert_close(decoder.nll(ImageBatch(PIXELS), code), expected)


def test_score_counts_the_pixels_predicted_right() -> None:
    decoder = MLPDecoder(image_settings(), IMAGE).double()
    code = torch.randn(11, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    nll, right, count = decoder.score(ImageBatch(PIXELS), code)
    guess = (decoder(code).sigmoid() > 0.5).double()
    assert count == 11 * 15
    assert int(right) == int((guess == PIXELS).sum())
    torch.testing.assert_close(nll, decoder.nll(ImageBatch(PIXELS), code))
