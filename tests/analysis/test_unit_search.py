"""The search finds the units that are known to track a property, and its r equals NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captioner.analysis.activations import record_text
from captioner.analysis.properties import inside_quotes, position_in_line
from captioner.analysis.unit_search import best_units, correlations
from tests.analysis.known_cells import COUNTS, TOGGLES, VOCABULARY, counting_and_toggling


def random_text(length: int) -> list[str]:
    words = np.random.default_rng(0).choice(['"', "\n", *"abcde"], length, p=[0.06, 0.08, *[0.172] * 5])
    return [str(word) for word in words]


def test_known_units_are_found() -> None:
    tokens = random_text(3000)
    recording = record_text(counting_and_toggling(), torch.tensor(VOCABULARY.encode(tokens)), tokens)
    counts = recording.unit(f"layer1.c.{COUNTS}")
    first_line = tokens.index("\n")
    position = torch.tensor(position_in_line(tokens))
    assert torch.allclose(counts[first_line:], position[first_line:] * np.tanh(0.5), atol=1e-4)
    best, *_ = best_units(recording.states, position_in_line(tokens), 3)
    assert best.name == f"layer1.c.{COUNTS}"
    assert min(best.found, best.confirmed) > 0.99
    quotes = torch.tensor(inside_quotes(tokens))
    assert torch.allclose(recording.unit(f"layer1.c.{TOGGLES}"), quotes, atol=1e-4)
    first, second, third = best_units(recording.states, inside_quotes(tokens), 3)
    assert {first.name, second.name} == {f"layer1.c.{TOGGLES}", f"layer1.h.{TOGGLES}"}
    assert min(first.confirmed, second.confirmed) > 0.999
    assert abs(third.found) < 0.9


def test_r_equals_numpy_s_and_is_zero_for_constants() -> None:
    units = torch.randn(50, 4, dtype=torch.float64)
    units[:, 2] = 3.0
    target = units[:, 0] - 2 * units[:, 1] + torch.randn(50, dtype=torch.float64)
    r = correlations(units, target)
    for column in (0, 1, 3):
        assert float(r[column]) == pytest.approx(np.corrcoef(units[:, column], target)[0, 1], abs=1e-12)
    assert float(r[2]) == 0


def test_ranking_uses_one_half_only() -> None:
    """A unit that equals the property only in the other half is not found."""
    values = torch.rand(2000, dtype=torch.float64)
    elsewhere = torch.arange(2000) // 500 % 2 == 1
    unit = torch.where(elsewhere, values, torch.rand(2000, dtype=torch.float64))
    (match,) = best_units({"layer1.h": unit[:, None].float()}, values.tolist(), 1)
    assert abs(match.found) < 0.1
    assert match.confirmed > 0.99


def test_a_constant_property_has_no_units() -> None:
    states = {"layer1.h": torch.rand(20, 3)}
    assert best_units(states, [1.0] * 20, 3) == []
    assert best_units({"layer1.h": torch.rand(1, 3)}, [1.0], 3) == []
    assert len(best_units(states, [float(i) for i in range(20)], 9)) == 3
