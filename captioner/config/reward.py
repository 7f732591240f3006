"""Whether, and how, a captioner learns from the score of captions that it says by itself."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config.checks import at_least, within


@dataclass
class RewardConfig:
    """From some epoch on: captions drawn from the model, rewarded by their scores (Rennie et al. 2017)."""

    after: int | None = None  # epochs that learn from the data set's captions, before; null: all do
    samples: int = 5  # captions drawn for each image, each judged against the mean of the others
    learning_rate: float = 1e-4  # from then on, in the place of optim.learning_rate, with a schedule of its own
    bleu: float = 0.0  # the reward is CIDEr-D (0 to 10) + so much × BLEU-4 (0 to 1, of single captions, smoothed)

    def __post_init__(self) -> None:
        at_least("reward.after", self.after, 1)
        within("reward.samples", self.samples, 2, 1000)
        at_least("reward.learning_rate", self.learning_rate, 0)
        at_least("reward.bleu", self.bleu, 0)
