"""What is added to cross-entropy training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError

NONE, LINEAR, EXPONENTIAL, INVERSE_SIGMOID = "none", "linear", "exponential", "inverse_sigmoid"
SAMPLE, ARGMAX = "sample", "argmax"


@dataclass
class ObjectiveConfig:
    """Additions to cross-entropy under teacher forcing: scheduled sampling, unlikelihood and R-Drop."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "scheduled_sampling": (NONE, LINEAR, EXPONENTIAL, INVERSE_SIGMOID),
        "own_words": (SAMPLE, ARGMAX),
    }

    # how ε, the chance that a word read is the reference's, falls: linear, exponential, inverse_sigmoid; none: 1
    scheduled_sampling: str = NONE
    # k at step i: linear, ε = k - c·i (null: 1); exponential, ε = k^i; inverse_sigmoid, ε = k/(k + exp(i/k))
    sampling_k: float | None = None
    sampling_c: float = 0.0  # linear: the slope c, per optimizer step
    sampling_floor: float = 0.0  # the least ε
    own_words: str = SAMPLE  # the words read instead: sampled from the model, or its most probable ones (argmax)
    unlikelihood: float = 0.0  # weight of the unlikelihood of words that the caption has already (Welleck et al. 2020)
    r_drop: float = 0.0  # weight of the divergence between two passes with other dropout (R-Drop, Liang et al. 2021)

    def __post_init__(self) -> None:
        check_choices("objective", self)
        for key in ("sampling_c", "unlikelihood", "r_drop"):
            at_least(f"objective.{key}", getattr(self, key), 0.0)
        within("objective.sampling_floor", self.sampling_floor, 0.0, 1.0)
        self._check_unused()
        if self.scheduled_sampling in (LINEAR, EXPONENTIAL):
            within("objective.sampling_k", self.sampling_k, 0.0, 1.0)
        if self.scheduled_sampling == INVERSE_SIGMOID:
            at_least("objective.sampling_k", self.sampling_k, 1.0)
        if self.scheduled_sampling in (EXPONENTIAL, INVERSE_SIGMOID) and self.sampling_k is None:
            example = "0.9999" if self.scheduled_sampling == EXPONENTIAL else "500, where ε = 1/2 at step 3,107"
            raise ConfigError(
                f"objective.scheduled_sampling={self.scheduled_sampling} needs objective.sampling_k, which says how "
                f"fast ε falls, such as {example}."
            )

    def _check_unused(self) -> None:
        """ConfigError for a setting of scheduled sampling that the schedule does not use."""
        keys = ("sampling_k", "sampling_c", "sampling_floor", "own_words")
        unused = keys if self.scheduled_sampling == NONE else () if self.scheduled_sampling == LINEAR else keys[1:2]
        instead = "linear" if unused == keys[1:2] else "linear, exponential or inverse_sigmoid"
        for key in unused:
            if getattr(self, key) != ObjectiveConfig.__dataclass_fields__[key].default:
                raise ConfigError(
                    f"objective.{key}={getattr(self, key)} has no effect with objective.scheduled_sampling="
                    f"{self.scheduled_sampling}: leave it out, or choose {instead}."
                )

    def reference_share(self, step: int) -> float:
        """ε at optimizer step `step`, from 0: the probability that a word read is the reference's; 1 without sampling.

        Bengio et al. 2015, section 2.4; there only the linear schedule has a least value.
        """
        if self.scheduled_sampling == NONE:
            return 1.0
        k = 1.0 if self.sampling_k is None else self.sampling_k
        if self.scheduled_sampling == LINEAR:
            share = k - self.sampling_c * step
        elif self.scheduled_sampling == EXPONENTIAL:
            share = float(k**step)
        else:
            exponent = step / k - math.log(k)  # k / (k + exp(i/k)) without overflow
            share = 1 / (1 + math.exp(exponent)) if exponent < 700 else 0.0
        return max(self.sampling_floor, share)
