"""The most probable tokens: `torch.topk` with a defined order of ties; and the normalizer of many rows."""

from __future__ import annotations

import math

import pytest
import torch

from captioner.decode.scores import at_least_float32, log_sum_exp, most_probable, top_tokens


@pytest.mark.parametrize("rows", [0, 1, 32, 33, 100])
def test_the_normalizer_is_that_of_torch_in_double_precision(rows: int) -> None:
    logits = 10 * torch.randn(rows, 50)
    logits[:, 7] = -math.inf
    expected = logits.double().exp().sum(dim=1, keepdim=True).log()
    torch.testing.assert_close(log_sum_exp(logits).double(), expected)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 13, 50])
@pytest.mark.parametrize("spread", [1, 4, 1000])
def test_the_highest_first_and_among_equals_the_lowest_id(count: int, spread: int) -> None:
    logits = torch.randint(0, spread, (60, 13)).float()
    values, words = top_tokens(logits, count)
    for row, row_values, row_words in zip(logits, values, words, strict=True):
        expected = sorted(range(13), key=lambda word: (-float(row[word]), word))[:count]
        assert row_words.tolist() == expected
        assert torch.equal(row_values, row[expected])


def test_masked_tokens_come_last() -> None:
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 2.0, -math.inf]])
    values, words = top_tokens(logits, 4)
    assert words[0, :2].tolist() == [3, 1]
    assert values[0].tolist() == [2.0, 1.0, -math.inf, -math.inf]


def test_precision_is_raised_but_never_lowered() -> None:
    for given, expected in ((torch.bfloat16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2):
        assert at_least_float32(torch.zeros(1, 2, dtype=given)).dtype == expected
    logits = torch.zeros(1, 2)
    assert at_least_float32(logits) is logits


@pytest.mark.parametrize("rows", [0, 1, 40])
@pytest.mark.parametrize("spread", [1, 3, 1000])
def test_the_most_probable_token_is_the_first_of_the_highest(rows: int, spread: int) -> None:
    logits = torch.randint(0, spread, (rows, 33)).float()
    logits[:, 5] = -math.inf
    expected = [max(range(33), key=lambda token: (float(row[token]), -token)) for row in logits]
    assert most_probable(logits).tolist() == expected
    assert most_probable(logits).dtype == torch.int64


def test_nan_is_found_as_the_most_probable() -> None:
    """So that the search stops with a message."""
    assert most_probable(torch.tensor([[0.0, math.nan, 9.0, math.nan]])).tolist() == [1]
