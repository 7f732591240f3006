"""How captions are generated."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar

from captioner.config.checks import at_least, check_choices, within
from captioner.errors import ConfigError

ENSEMBLE_MEANS = ("probabilities", "log_probabilities")
"""What `ensemble_mean` may be: the mean of what the members of an ensemble predict (`captioner.nn.ensemble`)."""


SEARCHES = ("greedy", "sample", "beam", "diverse", "contrastive")
RANKED_SEARCHES = ("beam", "diverse")
"""The searches that rank several hypotheses per image."""

USED_BY = {
    **dict.fromkeys(("beam_width", "length_penalty", "implausible_penalty", "consensus_weight"), RANKED_SEARCHES),
    "class_weight": ("beam",),
    **dict.fromkeys(("groups", "diversity_penalty"), ("diverse",)),
    **dict.fromkeys(("candidates", "degeneration_penalty"), ("contrastive",)),
    **dict.fromkeys(("temperature", "top_k", "top_p", "typical_p", "min_p"), ("sample",)),
}
"""Settings that only some searches use → these searches."""

_NAMED_IF_CHANGED = ("implausible_penalty", "class_weight", "consensus_weight")
_NAMED_LAST = "implausible_penalty"  # beside the other settings against implausible phrases

LONGEST, WIDEST, MAX_PENALTY = 10_000, 4096, 50.0  # above these a search has no end, or a score overflows


@dataclass
class DecodeConfig:
    """How captions are generated: the search, its limits, and the sampling distribution."""

    choices: ClassVar[dict[str, Iterable[str]]] = {"name": SEARCHES}

    name: str = "beam"  # greedy, sample, beam, diverse or contrastive
    max_length: int = 20  # longest caption in words, <END> not counted
    min_length: int = 0  # words before <END> is allowed
    allow_unknown: bool = False  # allow <UNK> in captions
    no_repeat_ngram: int = 0  # never generate an n-gram of this length twice in a caption; 0: off
    no_unseen_phrase: bool = False  # no n-gram that training captions should have and do not (docs/fluency.md)
    no_doubled_phrase: bool = False  # no phrase twice in a row or around one word, such as "a man and a man"
    no_bad_ending: bool = False  # no <END> after words that training captions do not end in, such as "on a"
    repetition_penalty: float = 1.0  # log-probabilities of words that the caption has are multiplied by this; 1: off
    beam_width: int = 3  # beam, diverse: partial captions kept at each step (K)
    length_penalty: float = 0.0  # beam, diverse: rank by log-probability / tokens**this, <END> counted
    implausible_penalty: float = 0.0  # beam, diverse: rank captions with an implausible phrase lower by this
    class_weight: float = 0.0  # beam: weight of the classes that the encoder's network sees (docs/tags.md); 0: off
    consensus_weight: float = 0.0  # beam, diverse: weight of the likeness to what people would say; 0: off
    groups: int = 3  # diverse: groups that share the beam_width places, each searched after those before it
    diversity_penalty: float = 0.5  # diverse: nats that a word costs for each earlier group's choice of it at this step
    candidates: int = 5  # contrastive: most probable words that are considered at each step (k)
    degeneration_penalty: float = 0.6  # contrastive: weight of the likeness to earlier words, 0 to 1; 0: greedy (alpha)
    temperature: float = 1.0  # sample: logits are divided by this
    top_k: int = 0  # sample: only the k most probable words; 0: all
    top_p: float = 1.0  # sample: only the fewest most probable words with at least this probability; 1: all
    min_p: float = 0.0  # sample: only words with at least this share of the most probable word's probability; 0: all
    typical_p: float = 1.0  # sample: only the most typical words with at least this probability in all; 1: all
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
        if self.name in RANKED_SEARCHES and self.implausible_penalty:
            used.append(f"implausible_penalty={self.implausible_penalty:g}")
        return tuple(used)

    @property
    def read_settings(self) -> dict[str, bool | int | float]:
        """The settings that this search reads, by name: searches of one name that agree in them find the same."""
        keys = [field.name for field in fields(self) if field.name != "name"]
        return {key: getattr(self, key) for key in keys if self.name in USED_BY.get(key, (self.name,))}

    @property
    def described(self) -> list[str]:
        """What decides over the captions, as KEY=VALUE: what only some searches have, the longest caption, and every
        setting that this search reads and that differs from its default.
        """
        read = self.read_settings
        changed = [key for key, value in read.items() if value != getattr(DecodeConfig, key)]
        own = [key for key in read if key in USED_BY and (key in changed or key not in _NAMED_IF_CHANGED)]
        first = [*(key for key in own if key != _NAMED_LAST), "max_length"]
        return [
            f"{key}={read[key]:g}" if isinstance(read[key], float) else f"{key}={str(read[key]).lower()}"
            for key in dict.fromkeys([*first, *changed])
        ]

    @property
    def needs_phrases(self) -> bool:
        """Whether the search needs the phrase statistics of the training captions."""
        return bool(self.guards)

    def __post_init__(self) -> None:
        check_choices("decode", self)
        at_least("decode.max_length", self.max_length, 1)
        within("decode.max_length", self.max_length, 1, LONGEST)
        within("decode.min_length", self.min_length, 0, self.max_length)
        at_least("decode.beam_width", self.beam_width, 1)
        within("decode.beam_width", self.beam_width, 1, WIDEST)
        at_least("decode.no_repeat_ngram", self.no_repeat_ngram, 0)
        at_least("decode.length_penalty", self.length_penalty, 0.0)
        within("decode.length_penalty", self.length_penalty, 0.0, MAX_PENALTY)
        within("decode.repetition_penalty", self.repetition_penalty, 1.0, MAX_PENALTY)
        self._check_diverse()
        within("decode.candidates", self.candidates, 1, WIDEST)
        within("decode.degeneration_penalty", self.degeneration_penalty, 0.0, 1.0)
        within("decode.min_p", self.min_p, 0.0, 1.0)
        at_least("decode.implausible_penalty", self.implausible_penalty, 0.0)
        within("decode.class_weight", self.class_weight, 0.0, 10.0)
        within("decode.consensus_weight", self.consensus_weight, 0.0, 10.0)
        at_least("decode.top_k", self.top_k, 0)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"decode.temperature={self.temperature}: expected more than 0 (use decode=greedy for 0).")
        for name in ("top_p", "typical_p"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"decode.{name}={getattr(self, name)} is out of range: expected more than 0, up to 1."
                )

    def _check_diverse(self) -> None:
        """ConfigError for settings of diverse beam search that cannot work."""
        within("decode.groups", self.groups, 1, WIDEST)
        at_least("decode.diversity_penalty", self.diversity_penalty, 0.0)
        if self.name == "diverse" and self.beam_width % self.groups:
            raise ConfigError(
                f"decode.groups={self.groups} does not divide decode.beam_width={self.beam_width}: the groups of "
                "diverse beam search have equal numbers of places."
            )
