"""Matrices in 4 and 8 bits: every value within half a step, whatever the number of columns."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.decode.quantized_rows import QuantizedRows


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("columns", [1, 7, 32])
def test_values_are_the_nearest_levels(bits: int, columns: int) -> None:
    matrix = np.random.default_rng(columns).normal(size=(6, columns)) * [[1e-3], [1], [50], [0], [2], [3]]
    stored = QuantizedRows.from_matrix(matrix, bits)
    stored.check()
    assert stored.codes.nbytes == 6 * -(-columns * bits // 8)
    values = stored.rows(np.arange(6))
    levels = (np.arange(1 << bits) - ((1 << bits) - 1) / 2)[None, None] * stored.steps[:, None, None].astype(float)
    nearest = np.abs(levels - matrix[:, :, None]).min(axis=2)
    np.testing.assert_allclose(np.abs(values - matrix), nearest, atol=1e-6)
    if bits == 8:
        assert (nearest <= stored.steps[:, None] * 0.5 * (1 + 1e-6)).all(), "no value is clipped"
    np.testing.assert_array_equal(stored.rows(np.array([4, 0])), values[[4, 0]])


def test_four_bits_keep_most_of_a_gaussian() -> None:
    """Max (1960), table II: the best uniform quantizer with 16 levels leaves 0.01154 of the variance."""
    matrix = np.random.default_rng(0).normal(size=(20, 5000))
    error = np.square(QuantizedRows.from_matrix(matrix, 4).rows(np.arange(20)) - matrix).mean()
    assert error == pytest.approx(0.01154, rel=0.05)


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="do not fit 9 columns of 4 bits"):
        QuantizedRows(np.zeros((2, 4), np.uint8), np.ones(2, np.float32), 4, 9).check()
    with pytest.raises(ValueError, match="do not fit 3 columns of 5 bits"):
        QuantizedRows(np.zeros((2, 3), np.uint8), np.ones(2, np.float32), 5, 3).check()
