"""Small decoders for the searches, and slow reference implementations of the searches.

In float64, so that a batch and its images one by one agree to the last few bits and no tie is an accident.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode import Hypothesis
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import DecoderState, DecoderStep, ImageFeatures
from captioner.text.vocabulary import SPECIAL_TOKENS

END = SPECIAL_TOKENS.end
FIRST_WORD = 4


def make_features(images: int, seed: int = 0, dim: int = 5, cells: int = 3) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.randn(images, cells, dim, generator=generator, dtype=torch.float64)
    return ImageFeatures(grid.mean(dim=1), grid)


def one_image(features: ImageFeatures, image: int) -> ImageFeatures:
    assert features.grid is not None
    return ImageFeatures(features.vector[image : image + 1], features.grid[image : image + 1])


class TinyDecoder(Decoder[Any]):
    """A recurrent decoder that attends to the grid: h' = tanh(A h + E[word] + Σ α_i g_i); logits = O h' + b."""

    def __init__(self, words: int, seed: int = 0, dim: int = 5, sharpness: float = 2.0, end_bias: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        size = FIRST_WORD + words
        self.recurrent, self.embedding = normal(dim, dim), normal(size, dim)
        self.output, self.bias = sharpness * normal(size, dim), normal(size)
        self.bias[END] += end_bias
        self.batches: list[int] = []  # the images of each step, for tests of how much work is done

    def init_state(self, features: ImageFeatures) -> DecoderState[Any, Any]:
        assert features.grid is not None
        return DecoderState((features.grid,), (torch.tanh(features.vector),))

    def step(self, tokens: Tensor, state: DecoderState[Any, Any]) -> DecoderStep:
        (grid,), (hidden,) = state.image, state.rows
        images, rows = grid.shape[0], tokens.shape[0]
        assert rows % images == 0
        assert hidden.shape[0] == rows
        self.batches.append(images)
        grid = grid.repeat_interleave(rows // images, dim=0)
        attention = (grid @ hidden[:, :, None]).squeeze(2).softmax(dim=1)
        context = (attention[:, None, :] @ grid).squeeze(1)
        hidden = torch.tanh(hidden @ self.recurrent + self.embedding[tokens] + context)
        return DecoderStep(hidden @ self.output.T + self.bias, DecoderState(state.image, (hidden,)), attention)


class TableDecoder(Decoder[Any]):
    """A Markov chain: logits = table[previous token], the same for every image. It does not attend."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = table
        self.steps = 0

    def init_state(self, features: ImageFeatures) -> DecoderState[Any, Any]:
        return DecoderState((), (torch.zeros(features.vector.shape[0], 1),))

    def step(self, tokens: Tensor, state: DecoderState[Any, Any]) -> DecoderStep:
        self.steps += 1
        return DecoderStep(self.table[tokens], state)


def same_logits(logits: list[float]) -> TableDecoder:
    """The same distribution after every token."""
    return TableDecoder(torch.tensor(logits, dtype=torch.float64).expand(len(logits), -1))


@dataclass(frozen=True)
class Scored:
    """The result of scoring one caption of one image step by step."""

    log_prob: float
    attention: Tensor | None  # (T, P), for the words


class CaptionScores:
    """Scores captions of one image step by step, by the definition; captions that begin alike share those steps."""

    def __init__(self, decoder: Decoder[Any], features: ImageFeatures) -> None:
        self.decoder = decoder
        self.first = decoder.init_state(features)
        self.steps: dict[tuple[int, ...], tuple[list[float], DecoderState[Any, Any], Tensor | None]] = {}

    def after(self, words: tuple[int, ...]) -> tuple[list[float], DecoderState[Any, Any], Tensor | None]:
        """Log-probability of each next token after `words`, the state there, and the attention of that step."""
        if words not in self.steps:
            previous, state = (words[-1], self.after(words[:-1])[1]) if words else (SPECIAL_TOKENS.start, self.first)
            with torch.no_grad():
                logits, state, attention = self.decoder.step(torch.tensor([previous]), state)
            self.steps[words] = logits[0].log_softmax(dim=0).tolist(), state, attention
        return self.steps[words]

    def score(self, words: tuple[int, ...], finished: bool) -> Scored:
        log_prob, attention_rows = 0.0, []
        for position, target in enumerate((*words, END) if finished else words):
            log_probs, _, attention = self.after(words[:position])
            log_prob += log_probs[target]
            if attention is not None:
                attention_rows.append(attention[0])
        return Scored(log_prob, torch.stack(attention_rows[: len(words)]) if attention_rows[: len(words)] else None)


def score_caption(decoder: Decoder[Any], features: ImageFeatures, words: tuple[int, ...], finished: bool) -> Scored:
    """Score one caption of one image, step by step, by the definition."""
    return CaptionScores(decoder, features).score(words, finished)


def repeats_an_ngram(words: tuple[int, ...], n: int) -> bool:
    ngrams = [words[i : i + n] for i in range(len(words) - n + 1)]
    return len(set(ngrams)) < len(ngrams)


def is_allowed(words: tuple[int, ...], config: DecodeConfig) -> bool:
    """Whether a caption may begin with `words`."""
    forbidden = {SPECIAL_TOKENS.pad, SPECIAL_TOKENS.start, END}
    if not config.allow_unknown:
        forbidden.add(SPECIAL_TOKENS.unknown)
    if len(words) > config.max_length or forbidden & set(words):
        return False
    return not (config.no_repeat_ngram and repeats_an_ngram(words, config.no_repeat_ngram))


def all_captions(size: int, config: DecodeConfig) -> list[tuple[int, ...]]:
    """Every allowed finished caption over a vocabulary of `size` tokens."""
    captions = []
    for length in range(config.min_length, config.max_length + 1):
        captions += [words for words in itertools.product(range(size), repeat=length) if is_allowed(words, config)]
    return captions


def reference_beam(
    decoder: TinyDecoder, features: ImageFeatures, config: DecodeConfig, size: int
) -> list[tuple[tuple[int, ...], bool, float]]:
    """Beam search over one image without a batch, a state, a bound or a top-k: (words, finished, score), best first.

    Every continuation is scored from the image on, and all of them are sorted.
    """

    scores = CaptionScores(decoder, features)

    @functools.cache
    def log_prob(words: tuple[int, ...], finished: bool) -> float:
        return scores.score(words, finished).log_prob

    def score(words: tuple[int, ...], finished: bool) -> float:
        return log_prob(words, finished) / max(1, len(words) + finished) ** config.length_penalty

    open_, finished = [()], []
    while open_:
        continuations = []
        for words in open_:
            if len(words) >= config.min_length:
                continuations.append((words, True))
            # A word beyond max_length competes for a place too: it cannot be taken, nor can what ranks below it.
            longer = replace(config, max_length=config.max_length + 1)
            continuations += [((*words, w), False) for w in range(size) if is_allowed((*words, w), longer)]
        continuations.sort(key=lambda one: -log_prob(*one))
        taken = continuations[: config.beam_width - len(finished)]
        finished += [words for words, ends in taken if ends]
        if len(open_[0]) == config.max_length:
            open_ = [words for words in open_ if (words, True) not in taken]
            break
        open_ = [words for words, ends in taken if not ends]
    return sorted(
        [(words, True, score(words, True)) for words in finished]
        + [(words, False, score(words, False)) for words in open_],
        key=lambda one: (not one[1], -one[2]),
    )


def assert_same(one: Hypothesis, other: Hypothesis) -> None:
    """Equal up to float64 rounding."""
    assert one.tokens == other.tokens
    assert one.finished == other.finished
    torch.testing.assert_close(one.log_prob, other.log_prob, rtol=0, atol=1e-10)
    torch.testing.assert_close(one.score, other.score, rtol=0, atol=1e-10)
    assert (one.attention is None) == (other.attention is None)
    if one.attention is not None:
        torch.testing.assert_close(one.attention, other.attention, rtol=0, atol=1e-10)
