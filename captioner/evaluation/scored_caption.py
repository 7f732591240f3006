"""How probable a model finds a given caption of an image, word by word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from captioner.decode.teacher_forcing import token_log_probs
from captioner.nn.model import CaptioningModel
from captioner.nn.types import ImageFeatures
from captioner.text.vocabulary import SPECIAL_NAMES, Vocabulary

END_NAME = SPECIAL_NAMES[Vocabulary.special.end]


@dataclass(frozen=True)
class ScoredWord:
    """A word of a caption, or <END>, as the model finds it after the words before it.

    log_prob: natural logarithm of its probability. rank: 1 where no word of the vocabulary is more probable here.
    known: False for a word outside the model's vocabulary; its values are then those of <UNK>.
    """

    word: str
    log_prob: float
    rank: int
    known: bool = True

    @property
    def surprise(self) -> float:
        """−log p, in nats."""
        return -self.log_prob


@dataclass(frozen=True, repr=False)
class ScoredCaption:
    """A given caption under the model.

    text: the caption as it was given. words: its tokens in order, and <END>. log_prob: natural logarithm of the
    caption's probability, the sum over `words`; a search gives a finished caption the same one.
    """

    text: str
    words: tuple[ScoredWord, ...] = field(compare=False)
    log_prob: float

    @property
    def nats_per_word(self) -> float:
        """−log_prob, divided by the number of words; <END> counts as one."""
        return -self.log_prob / len(self.words)

    @property
    def perplexity(self) -> float:
        """exp(nats_per_word): among how many equally probable words the model hesitates."""
        return math.exp(self.nats_per_word)

    @property
    def unknown_words(self) -> tuple[str, ...]:
        """The words that the vocabulary lacks, each once, in order. The model reads <UNK> for them."""
        return tuple(dict.fromkeys(word.word for word in self.words if not word.known))

    def __repr__(self) -> str:
        facts = [f"log_prob={self.log_prob:.2f}", f"{self.nats_per_word:.2f} nats per word"]
        if self.unknown_words:
            facts.append(f"unknown: {', '.join(self.unknown_words)}")
        return f"<ScoredCaption {self.text!r}: {', '.join(facts)}>"


def score_captions_of_image(
    model: CaptioningModel,
    vocabulary: Vocabulary,
    features: ImageFeatures,
    captions: Sequence[tuple[str, Sequence[str]]],
) -> list[ScoredCaption]:
    """Each caption of one image, scored under the model, in order.

    model: in eval mode. features: of the one image. captions: (text, tokens).
    """
    encoded = [vocabulary.encode(tokens) for _, tokens in captions]
    scored = token_log_probs(model.decoder, features, [encoded], len(vocabulary), with_ranks=True)
    found = []
    for (text, tokens), (_, _, of_tokens) in zip(captions, scored, strict=True):
        assert of_tokens.ranks is not None  # they were asked for
        known = [token in vocabulary for token in tokens]
        values = zip(
            [*tokens, END_NAME], of_tokens.log_probs.tolist(), of_tokens.ranks.tolist(), [*known, True], strict=True
        )
        found.append(ScoredCaption(text, tuple(ScoredWord(*value) for value in values), of_tokens.total))
    return found
