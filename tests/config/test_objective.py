"""The schedules of scheduled sampling are their equations, and settings without effect are refused."""

from __future__ import annotations

import math

import pytest

from captioner.config import ObjectiveConfig
from captioner.errors import ConfigError


@pytest.mark.parametrize("step", [0, 1, 7, 100, 10_000])
def test_schedules_are_their_equations(step: int) -> None:
    """Bengio et al. 2015, section 2.4, by exact arithmetic where floats would overflow."""
    assert ObjectiveConfig().reference_share(step) == 1.0
    linear = ObjectiveConfig(scheduled_sampling="linear", sampling_k=0.9, sampling_c=0.01, sampling_floor=0.25)
    assert linear.reference_share(step) == max(0.25, 0.9 - 0.01 * step)
    exponential = ObjectiveConfig(scheduled_sampling="exponential", sampling_k=0.99)
    assert exponential.reference_share(step) == pytest.approx(0.99**step)
    for k in (1.0, 5.0, 2000.0):
        sigmoid = ObjectiveConfig(scheduled_sampling="inverse_sigmoid", sampling_k=k)
        expected = k / (k + math.exp(step / k)) if step / k < 700 else 0.0
        assert sigmoid.reference_share(step) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse_sigmoid"])
def test_the_share_falls_from_at_most_1_to_the_floor(schedule: str) -> None:
    config = ObjectiveConfig(
        scheduled_sampling=schedule,
        sampling_k={"linear": 1.0, "exponential": 0.999, "inverse_sigmoid": 50.0}[schedule],
        sampling_c=1e-3 if schedule == "linear" else 0.0,
        sampling_floor=0.2,
    )
    shares = [config.reference_share(step) for step in range(0, 100_000, 97)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] <= 1
    assert shares[-1] == 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scheduled_sampling": "linaer"}, "Did you mean linear"),
        ({"scheduled_sampling": "exponential"}, r"needs objective\.sampling_k.*0\.9999"),
        ({"scheduled_sampling": "inverse_sigmoid"}, r"needs objective\.sampling_k"),
        ({"scheduled_sampling": "inverse_sigmoid", "sampling_k": 0.5}, r"sampling_k=0\.5 is too small"),
        ({"scheduled_sampling": "exponential", "sampling_k": 1.5}, r"sampling_k=1\.5 is out of range"),
        ({"scheduled_sampling": "exponential", "sampling_k": 0.9, "sampling_c": 0.1}, "sampling_c=0.1 has no effect"),
        ({"sampling_k": 0.9}, r"sampling_k=0\.9 has no effect with objective\.scheduled_sampling=none"),
        ({"own_words": "argmax"}, "own_words=argmax has no effect"),
        ({"scheduled_sampling": "linear", "sampling_floor": 1.5}, "sampling_floor"),
        ({"unlikelihood": -1.0}, "unlikelihood"),
        ({"r_drop": float("nan")}, "r_drop"),
    ],
)
def test_invalid_settings(settings: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ObjectiveConfig(**settings)  # type: ignore[arg-type]
