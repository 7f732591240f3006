"""Beam search over many images at once.

An image has K = `beam_width` places. At each step its open hypotheses are continued by every word, and the
most probable continuations take the places that are free; one that says <END> is finished and keeps its place.
So each image ends with K hypotheses, and a beam of one place is greedy search. (This is the search of Xu et
al. 2015; Sutskever et al. 2014, section 3.2, shrink the beam in the same way.)

The device does what is wide: one step of the decoder for all rows, then the best K of V words of each row. What
is narrow, at most K·K candidates an image, is ranked in plain Python and double precision, as one would on paper.
A hypothesis remembers the row it stood in at each step: its back pointers, by which its attention is found at
the end. No history of scores is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.batch import worth_shrinking
from captioner.decode.constraints import NEVER, forbid
from captioner.decode.hypothesis import Hypothesis, Path, StepDecoder
from captioner.decode.scores import at_least_float32, best_words, check_number
from captioner.errors import ConfigError
from captioner.nn.state import ImageFeatures, select_images, select_rows
from captioner.text.vocabulary import SpecialTokens


@torch.inference_mode()
def beam(
    decoder: StepDecoder, features: ImageFeatures, config: DecodeConfig, special: SpecialTokens, n_best: int = 1
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image, at most `beam_width`, best first; unfinished ones come last.

    The search of an image stops as soon as they are certain: asking for more costs time, and never changes the
    first ones. ConfigError where n_best < 1.
    """
    if n_best < 1:
        raise ConfigError(f"n_best={n_best}: expected 1 or more hypotheses an image.")
    n_best = min(n_best, config.beam_width)
    device = features.vector.device
    state = decoder.init_state(features)
    beams = [_Beam(image) for image in range(features.vector.shape[0])]
    batch, width = beams, 1  # the beams that are in the batch, and how many rows each of them has
    paths: list[Path | None] = [Path() for _ in batch]  # what each row continues; None: a row that nobody reads
    tokens = torch.full((len(batch),), special.start, device=device)
    attention: list[Tensor | None] = []

    while batch:
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1, keepdim=True)  # the model's own normaliser: before anything is forbidden
        forbid(logits, paths, config, special)
        values, best = best_words(logits, config.beam_width)
        log_probs, words = (values - total).tolist(), best.tolist()

        for position, one in enumerate(batch):
            if not one.settled:
                one.advance(position * width, words, log_probs, config, special.end)
                one.settled = one.settled or one.is_certain(n_best, config)

        unsettled = [position for position, one in enumerate(batch) if not one.settled]
        if not unsettled:
            break
        shrink = worth_shrinking(len(unsettled), len(batch))
        stay = unsettled if shrink else range(len(batch))
        new_width = max(len(batch[position].open) for position in unsettled)
        paths, parents = _lay_out(batch, stay, width, new_width)
        rows = torch.tensor(parents, device=device)
        state = select_images(state, torch.tensor(stay, device=device), rows) if shrink else select_rows(state, rows)
        tokens = torch.tensor([path.words[-1] if path else special.end for path in paths], device=device)
        batch, width = [batch[position] for position in stay], new_width

    return [
        [path.hypothesis(attention, config.length_penalty) for path in one.ranked(config.length_penalty)[:n_best]]
        for one in beams
    ]


@dataclass
class _Beam:
    """The hypotheses of one image."""

    image: int
    open: list[Path] = field(default_factory=lambda: [Path()])  # the most probable first
    finished: list[Path] = field(default_factory=list)  # in the order they were found
    settled: bool = False  # nothing more will be searched for

    def advance(
        self, first: int, words: list[list[int]], log_probs: list[list[float]], config: DecodeConfig, end: int
    ) -> None:
        """Continue the open hypotheses, which stand in rows `first`, `first` + 1, … of the batch.

        words[row], log_probs[row]: the row's best words, and their log-probabilities.
        """
        candidates = []
        for row, path in enumerate(self.open, start=first):
            for word, log_prob in zip(words[row], log_probs[row], strict=True):
                check_number(log_prob, self.image, len(path.words))
                if log_prob > NEVER:
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
                grown.append(path.say(word, log_prob, row))
        if not candidates or len(self.open[0].words) == config.max_length:
            # No word may follow: whatever has not ended here stays as it is, unfinished.
            self.open = [path for row, path in enumerate(self.open, start=first) if row not in ended]
            self.settled = True
        else:
            self.open = grown

    def is_certain(self, n_best: int, config: DecodeConfig) -> bool:
        """Can no open hypothesis come among the `n_best` any more?

        A log-probability never rises, and dividing it by the greatest length, max_length words and <END>, makes
        the most of it: log_prob / (max_length + 1)**length_penalty bounds whatever may become of an open
        hypothesis. One that is found later needs a higher score to win.
        """
        if not self.open:
            return True
        if len(self.finished) < n_best:
            return False
        scores = sorted((path.score(config.length_penalty) for path in self.finished), reverse=True)
        return scores[n_best - 1] >= self.open[0].log_prob / math.pow(config.max_length + 1, config.length_penalty)

    def ranked(self, length_penalty: float) -> list[Path]:
        """The finished hypotheses, then the unfinished, each by falling score; among equals as they were found."""
        return sorted([*self.finished, *self.open], key=lambda path: (not path.finished, -path.score(length_penalty)))


def _lay_out(
    batch: list[_Beam], stay: Sequence[int], width: int, new_width: int
) -> tuple[list[Path | None], list[int]]:
    """What each row of the next step continues, and the row of this step that it takes its state from.

    Every image has as many rows as the widest needs; the spare ones take any row of the same image.
    """
    paths: list[Path | None] = []
    parents: list[int] = []
    for position in stay:
        going_on = [] if batch[position].settled else batch[position].open
        spare = new_width - len(going_on)
        paths += [*going_on, *[None] * spare]
        parents += [*(path.rows[-1] for path in going_on), *[position * width] * spare]
    return paths, parents
