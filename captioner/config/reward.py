"""Self-critical training, the RL phase: the model is rewarded for the scores of captions that it generates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError

LEAVE_ONE_OUT, GREEDY = "leave_one_out", "greedy"
SCST, MINIMUM_RISK, MAX_MARGIN, BEST_OF_N = "scst", "minimum_risk", "max_margin", "best_of_n"
SAMPLE, BEAM = "sample", "beam"


@dataclass
class RewardConfig:
    """Self-critical training (Rennie et al. 2017): sampled captions are rewarded by their CIDEr-D."""

    choices: ClassVar[dict[str, Iterable[str]]] = {
        "method": (SCST, MINIMUM_RISK, MAX_MARGIN, BEST_OF_N),
        "baseline": (LEAVE_ONE_OUT, GREEDY),
        "candidates": (SAMPLE, BEAM),
    }

    after: int | None = None  # epochs of cross-entropy training before the RL phase; null: no RL phase
    # scst (REINFORCE), or a structure loss over the captions of each image: minimum_risk, max_margin or best_of_n
    method: str = SCST
    samples: int = 5  # captions per image, from which the gradient is estimated
    baseline: str = LEAVE_ONE_OUT  # scst: the mean reward of the image's other samples, or that of the greedy caption
    candidates: str = SAMPLE  # structure losses: captions sampled from the model, or the n best of a beam search
    sharpness: float = 1.0  # structure losses: the score of a caption is this × log p(caption)
    learning_rate: float = 1e-4  # of the RL phase, instead of optim.learning_rate, with a schedule of its own
    bleu: float = 0.0  # the reward is CIDEr-D (0 to 10) + this × BLEU-4 of the caption (0 to 1, smoothed)
    fluency: float = 0.0  # the reward is lowered by this for a caption with an implausible phrase (docs/fluency.md)
    length: float = 0.0  # lowered by this for each word that a caption is shorter or longer than its references' mean
    cross_entropy_weight: float = 0.0  # the loss also has this × the cross-entropy (nats per word) of the references
    kl_weight: float = 0.0  # and this × the divergence (nats per caption) from the model before the RL phase
    meteor: float = 0.0  # + this × METEOR of the caption (0 to 1; pip install 'captioner[meteor]', without Java)

    def __post_init__(self) -> None:
        check_choices("reward", self)
        at_least("reward.after", self.after, 0)
        within("reward.samples", self.samples, 1 if self.baseline == GREEDY else 2, 1000)
        for key in ("learning_rate", "bleu", "fluency", "length", "cross_entropy_weight", "kl_weight", "meteor"):
            at_least(f"reward.{key}", getattr(self, key), 0)
        if not self.sharpness > 0:
            raise ConfigError(f"reward.sharpness={self.sharpness}: expected more than 0, such as 1.")
        self._check_method()

    def _check_method(self) -> None:
        """ConfigError for a setting that the method does not use."""
        default = RewardConfig.__dataclass_fields__
        unused = ("candidates", "sharpness") if self.method == SCST else ("baseline",)
        others = SCST if self.method != SCST else f"{MINIMUM_RISK}, {MAX_MARGIN} or {BEST_OF_N}"
        for key in unused:
            if getattr(self, key) != default[key].default:
                raise ConfigError(
                    f"reward.{key}={getattr(self, key)} has no effect with reward.method={self.method}: leave it out, "
                    f"or set reward.method={others}."
                )

    @property
    def formula(self) -> str:
        """The reward for a reader: "CIDEr-D + 0.5 × BLEU-4"."""
        terms = {
            "+ {:g} × BLEU-4": self.bleu,
            "+ {:g} × METEOR": self.meteor,
            "- {:g} for a caption with an implausible phrase": self.fluency,
            "- {:g} for each word shorter or longer than the references' mean": self.length,
        }
        return " ".join(["CIDEr-D", *(text.format(weight) for text, weight in terms.items() if weight)])
