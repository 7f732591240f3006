"""Images with different numbers of regions: padding changes nothing, whatever values it has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captioner.config import AttentionConfig, DecodeConfig
from captioner.decode import search
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.layers.doubly_stochastic import doubly_stochastic_penalty
from captioner.nn.packing import pack_captions
from captioner.nn.types import ImageFeatures, join_features, mean_of_regions
from captioner.text.vocabulary import SPECIAL_TOKENS
from captioner.training.losses import BatchTotals, captioning_losses
from tests.nn.decoders.test_show_attend_tell import CAPTIONS, CONFIGS, SMALL, D, V, name

COUNTS = (1, 4, 6)  # regions of the three images
HARD = AttentionConfig(**SMALL, attention="hard", gate="none", hard_at_test="sample")
every_kind = pytest.mark.parametrize("config", [*CONFIGS, HARD], ids=name)


def make(config: AttentionConfig) -> tuple[torch.nn.Module, list[ImageFeatures], ImageFeatures]:
    """A decoder; each image's features alone; and all of them padded, with padding that is not zero."""
    torch.manual_seed(1)
    decoder = build_decoder(config, V, D).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    grids = [torch.randn(1, count, D, dtype=torch.float64) for count in COUNTS]
    alone = [
        ImageFeatures(grid.mean(1), grid, torch.tensor([seed])) for seed, grid in zip((11, 22, 33), grids, strict=True)
    ]
    padded = join_features(alone)
    assert padded.grid is not None
    assert padded.mask is not None
    noise = 100 * torch.randn_like(padded.grid)
    return decoder, alone, padded._replace(grid=torch.where(padded.mask.unsqueeze(2), padded.grid, noise))


def gradient_of(decoder: torch.nn.Module, loss: Tensor) -> Tensor:
    decoder.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None])


@every_kind
def test_training_on_padded_images_is_training_on_each(config: AttentionConfig) -> None:
    """The losses of a padded batch, and their gradients, are the sums of those of the images alone."""
    decoder, alone, padded = make(config)
    totals = BatchTotals.of(CAPTIONS)

    def loss(features: ImageFeatures, captions: list[list[list[int]]]) -> Tensor:
        packed = pack_captions(captions)
        return captioning_losses(decoder, features, packed, label_smoothing=0.0, totals=totals)["loss"]

    together = loss(padded, CAPTIONS)
    gradient = gradient_of(decoder, together)
    separate = [loss(features, [captions]) for features, captions in zip(alone, CAPTIONS, strict=True)]
    torch.testing.assert_close(together, torch.stack(separate).sum(), atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(gradient, gradient_of(decoder, torch.stack(separate).sum()), atol=1e-12, rtol=1e-9)


@every_kind
@pytest.mark.parametrize("decode", ["greedy", "beam", "sample"])
def test_captions_of_padded_images_are_those_of_each(config: AttentionConfig, decode: str) -> None:
    decoder, alone, padded = make(config)
    settings = DecodeConfig(name=decode, max_length=6)
    together = search(decoder, padded, settings, SPECIAL_TOKENS, image_ids=[7, 8, 9])
    for image, features in enumerate(alone):
        (expected,) = search(decoder, features, settings, SPECIAL_TOKENS, image_ids=[7 + image])
        found = together[image][0]
        assert found.tokens == expected[0].tokens
        assert found.log_prob == pytest.approx(expected[0].log_prob, abs=1e-10)
        assert found.attention is not None
        torch.testing.assert_close(found.attention[:, : COUNTS[image]], expected[0].attention, atol=1e-10, rtol=1e-9)
        assert not found.attention[:, COUNTS[image] :].any()


def test_the_mean_is_over_the_regions_of_each_image() -> None:
    grid, mask = torch.tensor([[[1.0], [3.0], [99.0]]]), torch.tensor([[True, True, False]])
    assert mean_of_regions(grid, mask).tolist() == [[2.0]]
    assert mean_of_regions(grid, None).tolist() == [[pytest.approx(103 / 3)]]


def test_the_doubly_stochastic_penalty_counts_no_padding() -> None:
    """Two words of an image with two regions: totals 1.5 and 0.5, so the mean of 0.25 and 0.25."""
    packed = pack_captions([[[4]]])
    weights, mask = torch.tensor([[0.75, 0.25, 0.0], [0.75, 0.25, 0.0]]), torch.tensor([[True, True, False]])
    assert float(doubly_stochastic_penalty(weights, packed, mask)) == 0.25


def test_features_of_equal_size_are_joined_without_a_mask() -> None:
    parts = [
        ImageFeatures(torch.zeros(1, 2), torch.ones(1, 3, 2)),
        ImageFeatures(torch.ones(2, 2), torch.zeros(2, 3, 2)),
    ]
    joined = join_features(parts)
    assert joined.mask is None
    assert joined.grid is not None
    assert joined.grid[:, 0, 0].tolist() == [1, 0, 0]
    assert joined.images(lambda tensor: tensor[1:]).vector.tolist() == [[1, 1], [1, 1]]


def test_vectors_are_joined_without_grids() -> None:
    joined = join_features([ImageFeatures(torch.zeros(1, 2)), ImageFeatures(torch.ones(2, 2))])
    assert joined.grid is None
    assert joined.vector[:, 0].tolist() == [0, 1, 1]
