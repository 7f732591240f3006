"""The NumPy side of a search beside torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.decode.scores import top_tokens as torch_top_tokens
from captioner.runtime.onnx_rows import log_sum_exp, top_tokens


@pytest.mark.parametrize("levels", [3, 1000], ids=["many ties", "few ties"])
@pytest.mark.parametrize("count", [1, 5, 60])
def test_the_best_tokens_are_those_of_torch_also_among_equals(levels: int, count: int) -> None:
    generator = np.random.default_rng(count)
    logits = (generator.integers(0, levels, (7, 50)) / 8).astype(np.float32)
    logits[:, [0, 1, 3]] = -np.inf
    found = top_tokens(logits, count)
    _, expected = torch_top_tokens(torch.from_numpy(logits), count)
    allowed = min(count, 47)  # tokens at -inf have no defined order
    np.testing.assert_array_equal(found[:, :allowed], expected.numpy()[:, :allowed])
    assert found.shape == expected.shape


def test_log_sum_exp_equals_torch_and_does_not_overflow() -> None:
    logits = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32) * 200
    expected = torch.from_numpy(logits).logsumexp(dim=1).numpy()
    np.testing.assert_allclose(log_sum_exp(logits), expected, rtol=1e-6)
