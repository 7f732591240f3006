"""How captions are generated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError

ENSEMBLE_MEANS = ("probabilities", "log_probabilities")
"""What `ensemble_mean` may be: the mean of what the members of an ensemble predict (`captioner.nn.ensemble`)."""


@dataclass
class DecodeConfig:
    """How captions are generated: the search, its limits, and the sampling distribution."""

    choices: ClassVar[dict[str, Iterable[str]]] = {"name": ("greedy", "sample", "beam")}

    name: str = "beam"  # greedy, sample or beam
    max_length: int = 20  # longest caption in words, <END> not counted
    min_length: int = 0  # words before <END> is allowed
    allow_unknown: bool = False  # allow <UNK> in captions
    no_repeat_ngram: int = 0  # never generate an n-gram of this length twice in a caption; 0: off
    no_unseen_phrase: bool = False  # no n-gram that training captions should have and do not (docs/fluency.md)
    no_doubled_phrase: bool = False  # no phrase twice in a row or around one word, such as "a man and a man"
    no_bad_ending: bool = False  # no <END> after words that training captions do not end in, such as "on a"
    beam_width: int = 3  # beam: partial captions kept at each step (K)
    length_penalty: float = 0.0  # beam: rank by log-probability / tokens**this, <END> counted; 0: by log-probability
    implausible_penalty: float = 0.0  # beam: rank captions with an implausible phrase lower by this
    class_weight: float = 0.0  # beam: weight of the classes that the encoder's network sees (docs/tags.md); 0: off
    temperature: float = 1.0  # sample: logits are divided by this
    top_k: int = 0  # sample: only the k most probable words; 0: all
    top_p: float = 1.0  # sample: only the fewest most probable words with at least this probability; 1: all
    seed: int = 0  # of sample, and of hard attention that samples locations

    @property
    def forbidden_phrases(self) -> tuple[str, ...]:
        """The kinds of implausible phrases (`captioner.text.phrases.KINDS`) that are never generated."""
        kinds = {"unseen": self.no_unseen_phrase, "doubled": self.no_doubled_phrase, "ending": self.no_bad_ending}
        return tuple(kind for kind, forbidden in kinds.items() if forbidden)

    @property
    def guards(self) -> tuple[str, ...]:
        """The settings against implausible phrases that are in use, as KEY=VALUE."""
        keys = ("no_unseen_phrase", "no_doubled_phrase", "no_bad_ending")
        used = [f"{key}=true" for key in keys if getattr(self, key)]
        if self.name == "beam" and self.implausible_penalty:
            used.append(f"implausible_penalty={self.implausible_penalty:g}")
        return tuple(used)

    @property
    def needs_phrases(self) -> bool:
        """Whether the search needs the phrase statistics of the training captions."""
        return bool(self.guards)

    def __post_init__(self) -> None:
        check_choices("decode", self)
        at_least("decode.max_length", self.max_length, 1)
        within("decode.min_length", self.min_length, 0, self.max_length)
        at_least("decode.beam_width", self.beam_width, 1)
        at_least("decode.no_repeat_ngram", self.no_repeat_ngram, 0)
        at_least("decode.length_penalty", self.length_penalty, 0.0)
        at_least("decode.implausible_penalty", self.implausible_penalty, 0.0)
        within("decode.class_weight", self.class_weight, 0.0, 10.0)
        at_least("decode.top_k", self.top_k, 0)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"decode.temperature={self.temperature}: expected more than 0 (use decode=greedy for 0).")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"decode.top_p={self.top_p} is out of range: expected more than 0, up to 1.")
