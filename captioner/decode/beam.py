"""Beam search over many images at once.

The device does what is wide: one step of the decoder for all rows, and the best K of V words of each row.
What is narrow, K·K candidates an image, is ranked in plain Python, in double precision, exactly as one would
on paper. A hypothesis remembers the row it stood in at each step, so that its attention is looked up once,
at the end; no history of scores is kept.

An image starts with K places. At each step its open hypotheses are continued by every word, and the most
probable continuations take the open places; one that says <END> keeps its place for good (as in the search of
Xu et al. 2015). So a beam of width 1 is greedy search, and a beam has at most K finished hypotheses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captioner.config import DecodeConfig
from captioner.decode.batch import worth_dropping
from captioner.decode.constraints import NEVER, forbid
from captioner.decode.hypothesis import Hypothesis, Path, StepDecoder
from captioner.decode.scores import at_least_float32, best_words, check_number
from captioner.nn.state import ImageFeatures, select_images, select_rows
from captioner.text.vocabulary import SpecialTokens


@dataclass
class _Beam:
    """The hypotheses of one image."""

    image: int
    open: list[Path] = field(default_factory=lambda: [Path()])  # the most probable first
    finished: list[Path] = field(default_factory=list)  # in the order they were found
    settled: bool = False  # nothing that is still open can matter

    def advance(
        self, first_row: int, words: list[list[int]], log_probs: list[list[float]], config: DecodeConfig, end: int
    ) -> None:
        """Continue the open hypotheses, which stand in the rows from `first_row` on.

        words[r], log_probs[r]: the best words of row r of the batch, and their log-probabilities.
        """
        candidates = []
        for row, path in enumerate(self.open, start=first_row):
            for word, log_prob in zip(words[row], log_probs[row], strict=True):
                check_number(log_prob, self.image, len(path.words))
                if log_prob > NEVER:
                    candidates.append((-(path.log_prob + log_prob), row, word, log_prob))
        candidates.sort()  # ties: the better hypothesis first, then the lower word
        places = config.beam_width - len(self.finished)
        full = len(self.open[0].words) == config.max_length  # no word may follow, only <END>
        grown, ended = [], set()
        for _, row, word, log_prob in candidates[:places]:
            path = self.open[row - first_row]
            if word == end:
                self.finished.append(path.end(log_prob))
                ended.add(row)
            else:
                grown.append(path.say(word, log_prob, row))
        if full or not candidates:  # what has not ended stays as it is, unfinished
            self.open = [path for row, path in enumerate(self.open, start=first_row) if row not in ended]
            self.settled = True
        else:
            self.open = grown

    def is_certain(self, n_best: int, config: DecodeConfig) -> bool:
        """Can no open hypothesis come among the `n_best` finished ones any more?

        A log-probability never rises, and dividing it by the largest length that there can be, with <END>,
        makes the most of it: log_prob / (max_length + 1)**length_penalty bounds whatever may become of an
        open hypothesis. At equal score the one that was found first wins.
        """
        if not self.open:
            return True
        if len(self.finished) < n_best:
            return False
        scores = sorted((path.score(config.length_penalty) for path in self.finished), reverse=True)
        return scores[n_best - 1] >= self.open[0].log_prob / math.pow(config.max_length + 1, config.length_penalty)

    def best(self, count: int, length_penalty: float) -> list[Path]:
        """Finished hypotheses before unfinished ones, each by falling score; ties in the order they were found."""

        def by_score(paths: list[Path]) -> list[Path]:
            return sorted(paths, key=lambda path: path.score(length_penalty), reverse=True)

        return [*by_score(self.finished), *by_score(self.open)][:count]


@torch.inference_mode()
def beam(
    decoder: StepDecoder, features: ImageFeatures, config: DecodeConfig, special: SpecialTokens, n_best: int = 1
) -> list[list[Hypothesis]]:
    """The `n_best` hypotheses of every image (at most `beam_width`), best first.

    The search of an image stops as soon as they are certain. Asking for more never changes the first ones.
    """
    n_best = min(n_best, config.beam_width)
    device = features.vector.device
    beams = [_Beam(image) for image in range(features.vector.shape[0])]
    batch, width = beams, 1  # the beams in the batch, and how many rows each of them has
    paths: list[Path | None] = [Path() for _ in beams]  # what each row continues; None: a row that nobody reads
    attention: list[Tensor | None] = []
    state = decoder.init_state(features)
    tokens = torch.full((len(beams),), special.start, device=device)

    while batch:
        logits, state, weights = decoder.step(tokens, state)
        attention.append(weights)
        logits = at_least_float32(logits)
        total = logits.logsumexp(dim=1, keepdim=True)  # before anything is forbidden: the model's own normaliser
        forbid(logits, paths, config, special)
        values, best = best_words(logits, config.beam_width)
        log_probs, words = (values - total).tolist(), best.tolist()
        for position, one in enumerate(batch):
            if not one.settled:
                one.advance(position * width, words, log_probs, config, special.end)
                one.settled = one.settled or one.is_certain(n_best, config)

        keep = [position for position, one in enumerate(batch) if not one.settled]
        if not keep:
            break
        # The rows of the next step: every image has as many as the widest needs, each from where its path stands now.
        dropping = worth_dropping(len(keep), len(batch))
        staying = keep if dropping else range(len(batch))
        new_width = max(len(batch[position].open) for position in keep)
        paths, rows = [], []
        for position in staying:
            going_on = [] if batch[position].settled else batch[position].open
            idle = new_width - len(going_on)
            paths += [*going_on, *[None] * idle]
            rows += [*(path.rows[-1] for path in going_on), *[position * width] * idle]
        parents = torch.tensor(rows, device=device)
        tokens = torch.tensor([path.words[-1] if path else special.end for path in paths], device=device)
        if dropping:
            state = select_images(state, torch.tensor(keep, device=device), parents)
        else:
            state = select_rows(state, parents)
        batch, width = [batch[position] for position in staying], new_width

    return [
        [path.hypothesis(attention, config.length_penalty) for path in one.best(n_best, config.length_penalty)]
        for one in beams
    ]
