"""Self-critical training, the RL phase: the model is rewarded for the scores of captions that it generates."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.checks import at_least, within


@dataclass
class RewardConfig:
    """Self-critical training (Rennie et al. 2017): sampled captions are rewarded by their CIDEr-D."""

    after: int | None = None  # epochs of cross-entropy training before the RL phase; null: no RL phase
    samples: int = 5  # captions sampled per image; the baseline of each is the mean reward of the others
    learning_rate: float = 1e-4  # of the RL phase, instead of optim.learning_rate, with a schedule of its own
    bleu: float = 0.0  # the reward is CIDEr-D (0 to 10) + this × BLEU-4 of the caption (0 to 1, smoothed)
    fluency: float = 0.0  # the reward is lowered by this for a caption with an implausible phrase (docs/fluency.md)
    cross_entropy_weight: float = 0.0  # the loss also has this × the cross-entropy (nats per word) of the references
    meteor: float = 0.0  # + this × METEOR of the caption (0 to 1; pip install 'captioner[meteor]', without Java)

    def __post_init__(self) -> None:
        at_least("reward.after", self.after, 1)
        within("reward.samples", self.samples, 2, 1000)
        at_least("reward.learning_rate", self.learning_rate, 0)
        at_least("reward.bleu", self.bleu, 0)
        at_least("reward.fluency", self.fluency, 0)
        at_least("reward.cross_entropy_weight", self.cross_entropy_weight, 0)
        at_least("reward.meteor", self.meteor, 0)

    @property
    def formula(self) -> str:
        """The reward for a reader: "CIDEr-D + 0.5 × BLEU-4"."""
        terms = {
            "+ {:g} × BLEU-4": self.bleu,
            "+ {:g} × METEOR": self.meteor,
            "- {:g} for a caption with an implausible phrase": self.fluency,
        }
        return " ".join(["CIDEr-D", *(text.format(weight) for text, weight in terms.items() if weight)])
