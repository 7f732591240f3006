"""Matrices in 2, 4 and 8 bits: every value within half a step, whatever the number of columns."""

from __future__ import annotations

import numpy as np
import pytest

from captioner.decode.quantized_rows import QuantizedRows


@pytest.mark.parametrize("bits", [2, 4, 8])
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
    assert stored.rows(np.array([], np.int64)).shape == (0, columns)


@pytest.mark.parametrize(("bits", "left"), [(2, 0.1188), (4, 0.01154)])
def test_few_bits_keep_most_of_a_gaussian(bits: int, left: float) -> None:
    """Max (1960), table II: what the best uniform quantizers with 4 and 16 levels leave of the variance."""
    matrix = np.random.default_rng(0).normal(size=(20, 5000))
    error = np.square(QuantizedRows.from_matrix(matrix, bits).matrix() - matrix).mean()
    assert error == pytest.approx(left, rel=0.05)


def test_a_byte_has_the_codes_of_its_columns_from_the_lowest_bits_on() -> None:
    """The layout of stored files."""
    for bits, codes, packed in ((2, [3, 0, 1, 2, 1], [0b10_01_00_11, 1]), (4, [3, 15, 9], [0xF3, 9]), (8, [7], [7])):
        rows = QuantizedRows(np.array([packed], np.uint8), np.ones(1, np.float32), bits, len(codes))
        np.testing.assert_array_equal(rows.matrix()[0] + (2**bits - 1) / 2, codes)


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="do not fit 9 columns of 4 bits"):
        QuantizedRows(np.zeros((2, 4), np.uint8), np.ones(2, np.float32), 4, 9).check()
    with pytest.raises(ValueError, match="do not fit 3 columns of 5 bits"):
        QuantizedRows(np.zeros((2, 3), np.uint8), np.ones(2, np.float32), 5, 3).check()
