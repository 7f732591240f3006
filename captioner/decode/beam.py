"""Beam search over many images at once.

An image has K = `beam_width` places. At each step its open hypotheses are continued by every word, and the
most probable continuations take the places that are free; one that says <END> is finished and keeps its place.
So each image ends with K hypotheses, and a beam of one place is greedy search. (This is the search in the code
that Xu et al. released with Show, Attend and Tell, 2015.)

The device does what is wide: one step of the decoder for all rows, then the best K of V words of each row. What
is narrow, at most K·K candidates an image, is ranked in plain Python and double precision, as one would on paper.
A hypothesis remembers the row it stood in at each step: its back pointers, by which its attention is found at
the end. No history of scores is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.constraints import MASKED, mask_forbidden_tokens
from captioner.decode.hypothesis import Hypothesis, PartialHypothesis
from captioner.decode.scores import at_least_float32, check_not_nan, top_tokens
from captioner.errors import ConfigError
from captioner.nn.decoders.decoder import Decoder
from captioner.nn.types import ImageFeatures, select_images, select_rows
from captioner.text.vocabulary import SpecialTokens


@torch.inference_mode()
def beam(
    decoder: Decoder[Any], features: ImageFeatures, config: DecodeConfig, special: SpecialTokens, n_best: int = 1
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image, at most `beam_width`, best first; unfinished ones come last.

    The search of an image stops as soon as they are certain: asking for more of them costs time, and never changes
    the first ones. ConfigError where n_best < 1.
    """
    if n_best < 1:
        raise ConfigError(f"n_best={n_best}: expected 1 or more hypotheses an image.")
    n_best = min(n_best, config.beam_width)
    device = features.vector.device
    state = decoder.init_state(features)
    beams = [_Beam(image) for image in range(features.vector.shape[0])]
    batch, width = beams, 1  # the beams that are still searched, and how many rows each of them has
    paths = [PartialHypothesis() for _ in batch]  # what each row continues
    tokens = torch.full((len(batch),), special.start, device=device)
    attention: list[Tensor | None] = []

    while batch:
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1, keepdim=True)  # the model's own normaliser: before anything is forbidden
        mask_forbidden_tokens(logits, paths, config, special)
        values, best = top_tokens(logits, config.beam_width)
        log_probs, words = (values - total).tolist(), best.tolist()

        for position, one in enumerate(batch):
            one.advance(position * width, words, log_probs, config, special.end)
        stay = [position for position, one in enumerate(batch) if not one.is_settled(n_best, config)]
        if not stay:
            break
        images = torch.tensor(stay, device=device)
        everyone = len(stay) == len(batch)
        batch = [batch[position] for position in stay]
        width = max(len(one.open) for one in batch)
        paths = [path for one in batch for path in _exactly(width, one.open)]
        rows = torch.tensor([path.rows[-1] for path in paths], device=device)
        tokens = torch.tensor([path.words[-1] for path in paths], device=device)
        state = select_rows(state, rows) if everyone else select_images(state, images, rows)

    return [
        [path.hypothesis(attention, config.length_penalty) for path in one.ranked(config.length_penalty)[:n_best]]
        for one in beams
    ]


@dataclass
class _Beam:
    """The hypotheses of one image."""

    image: int
    open: list[PartialHypothesis] = field(default_factory=lambda: [PartialHypothesis()])  # the most probable first
    finished: list[PartialHypothesis] = field(default_factory=list)  # in the order they were found
    at_end: bool = False  # what is open can grow no more

    def advance(
        self, first: int, words: list[list[int]], log_probs: list[list[float]], config: DecodeConfig, end: int
    ) -> None:
        """Continue the open hypotheses, which stand in rows `first`, `first` + 1, … of the batch.

        words[row], log_probs[row]: the row's best words, and their log-probabilities.
        """
        candidates = []
        for row, path in enumerate(self.open, start=first):
            for word, log_prob in zip(words[row], log_probs[row], strict=True):
                check_not_nan(log_prob, self.image, len(path.words))
                if log_prob > MASKED:
                    candidates.append((-(path.log_prob + log_prob), row, word, log_prob))
        candidates.sort()  # among equals the better hypothesis first, then the lower word
        places = config.beam_width - len(self.finished)
        grown, ended = [], set()
        for _, row, word, log_prob in candidates[:places]:
            path = self.open[row - first]
            if word == end:
                self.finished.append(path.end(log_prob))
                ended.add(row)
            else:
                grown.append(path.append(word, log_prob, row))
        if not candidates or len(self.open[0].words) == config.max_length:
            # No word may follow: whatever has not ended here stays as it is, unfinished.
            self.open = [path for row, path in enumerate(self.open, start=first) if row not in ended]
            self.at_end = True
        else:
            self.open = grown

    def is_settled(self, n_best: int, config: DecodeConfig) -> bool:
        """Are the `n_best` certain: can no open hypothesis come among them any more?

        A log-probability never rises, and dividing it by the greatest length, max_length words and <END>, makes
        the most of it: log_prob / (max_length + 1)**length_penalty bounds whatever may become of an open
        hypothesis. One that is found later needs a higher score to win.
        """
        if self.at_end or not self.open:
            return True
        if len(self.finished) < n_best:
            return False
        scores = sorted((path.score(config.length_penalty) for path in self.finished), reverse=True)
        return scores[n_best - 1] >= self.open[0].log_prob / math.pow(config.max_length + 1, config.length_penalty)

    def ranked(self, length_penalty: float) -> list[PartialHypothesis]:
        """The finished hypotheses, then the unfinished, each by falling score; among equals as they were found."""
        return sorted([*self.finished, *self.open], key=lambda path: (not path.finished, -path.score(length_penalty)))


def _exactly(width: int, paths: list[PartialHypothesis]) -> list[PartialHypothesis]:
    """The paths, and the first again for spare rows: every image needs as many rows as the widest, to be ignored."""
    return (paths + paths[:1] * width)[:width]
