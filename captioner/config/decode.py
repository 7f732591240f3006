"""How a caption is searched for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captioner.config.checks import at_least, within
from captioner.errors import ConfigError, choose


@dataclass
class DecodeConfig:
    """How a caption is searched for."""

    name: str = "beam"  # greedy, sample or beam
    max_length: int = 20  # words, <END> not counted
    min_length: int = 0  # words before <END> may be said
    allow_unknown: bool = False  # may <UNK> be said?
    no_repeat_ngram: int = 0  # never say an n-gram of this length twice; 0: off
    beam_width: int = 3  # beam
    length_penalty: float = 0.0  # beam: score = log-probability / tokens**this, <END> counted; 0: none
    temperature: float = 1.0  # sample
    top_k: int = 0  # sample: only the k most probable words; 0: all
    top_p: float = 1.0  # sample: the smallest set of words with this much probability
    seed: int = 0  # sample, and hard attention that draws where to look

    def __post_init__(self) -> None:
        choose("decode.name", self.name, ("greedy", "sample", "beam"))
        at_least("decode.max_length", self.max_length, 1)
        within("decode.min_length", self.min_length, 0, self.max_length)
        at_least("decode.beam_width", self.beam_width, 1)
        at_least("decode.no_repeat_ngram", self.no_repeat_ngram, 0)
        at_least("decode.length_penalty", self.length_penalty, 0.0)
        at_least("decode.top_k", self.top_k, 0)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"decode.temperature={self.temperature}: expected more than 0 (use decode=greedy for 0).")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"decode.top_p={self.top_p} is out of range: expected more than 0, up to 1.")
