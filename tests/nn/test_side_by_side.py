"""The features of samples of several images, against NumPy of what they should be."""

from __future__ import annotations

import numpy as np
import torch

from captioner.nn.side_by_side import attention_maps, side_by_side
from captioner.nn.types import ImageFeatures

P, D = 3, 4


def _features(images: int) -> ImageFeatures:
    grid = torch.randn(images, P, D, requires_grad=True)
    return ImageFeatures(grid.mean(1) + 1, grid)  # the vector need not be the mean of the grid


def test_regions_side_by_side() -> None:
    features = _features(6)
    counts = [2, 1, 3]
    found = side_by_side(features, counts)
    assert found.grid is not None
    assert found.mask is not None
    assert features.grid is not None
    grid, vector = features.grid.detach().numpy(), features.vector.detach().numpy()
    start = 0
    for sample, count in enumerate(counts):
        rows = slice(start, start + count)
        start += count
        expected = np.concatenate(list(grid[rows]))
        np.testing.assert_array_equal(found.grid[sample, : count * P].detach(), expected)
        assert found.mask[sample].tolist() == [True] * (count * P) + [False] * ((3 - count) * P)
        np.testing.assert_allclose(found.vector[sample].detach(), vector[rows].mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.grid_mean()[0].detach(), grid[:2].reshape(-1, D).mean(0), rtol=1e-5)


def test_equal_numbers_need_no_mask() -> None:
    found = side_by_side(_features(4), [2, 2])
    assert found.mask is None
    assert found.grid is not None
    assert found.grid.shape == (2, 2 * P, D)
    single = _features(3)
    same = side_by_side(single, [1, 1, 1])
    assert torch.equal(same.vector, single.vector)


def test_only_vectors_and_no_samples() -> None:
    vectors = ImageFeatures(torch.arange(6.0).view(3, 2))
    found = side_by_side(vectors, [1, 2])
    assert found.grid is None
    assert found.vector.tolist() == [[0, 1], [3, 4]]
    assert len(side_by_side(ImageFeatures(torch.empty(0, D), torch.empty(0, P, D)), []).vector) == 0


def test_every_image_has_a_gradient() -> None:
    features = _features(3)
    found = side_by_side(features, [1, 2])
    assert found.grid is not None
    (found.grid.sum() + found.vector.sum()).backward()
    assert features.grid is not None
    assert features.grid.grad is not None
    # each region counts once in the grid, and by 1/P, divided by the views of its sample, in the vector
    expected = [1 + 1 / P, 1 + 1 / P / 2, 1 + 1 / P / 2]
    np.testing.assert_allclose(features.grid.grad.mean((1, 2)), expected, rtol=1e-6)


def test_attention_maps() -> None:
    """Each view's own map, beside each other; what belongs to padding is left out."""
    rows, columns, views = 2, 3, 2
    weights = torch.arange(2.0 * 20).view(2, 20)
    found = attention_maps(weights, (rows, columns), views)
    assert found.shape == (2, rows, views * columns)
    for step in range(2):
        flat = weights[step].numpy()
        expected = np.concatenate([flat[:6].reshape(rows, columns), flat[6:12].reshape(rows, columns)], axis=1)
        np.testing.assert_array_equal(found[step], expected)
