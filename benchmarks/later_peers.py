"""Reference implementations of how ImageCaptioning.pytorch does Up-Down and the transformer, written plainly.

As in `peers.py` they contain no code of that project: each does the work that determines the speed of its design, and
none that it does not do. Every row is computed at every step, padded or finished, with a log-softmax over the
vocabulary; the log-probabilities of all words are written into one tensor, in greedy search after those of finished
rows became 0. Beam search sorts all K · V scores and keeps and reorders the log-probabilities.

The transformer's decoder reads the whole prefix again at every step, because its state is the words so far. In training
its encoder reads the regions once per caption, because they are copied to the captions before it. Attention and
normalization are torch's own layers, which are faster than those of that project.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Rows(NamedTuple):
    """The state of N rows: tensors whose first dimension is N."""

    parts: tuple[Tensor, ...]

    def select(self, rows: Tensor) -> _Rows:
        return _Rows(tuple(part[rows] for part in self.parts))


class _StepByStep(nn.Module):
    """Greedy and beam search over `encode` and `step`."""

    words: nn.Linear

    def encode(self, grid: Tensor, each: int) -> tuple[Tensor, ...]:
        """Grids (B, P, D) → what every step reads, copied to the N = B · each rows."""
        raise NotImplementedError

    def start(self, rows: int) -> _Rows:
        """The state of N rows before the first word."""
        raise NotImplementedError

    def step(self, words: Tensor, image: tuple[Tensor, ...], state: _Rows) -> tuple[Tensor, _Rows]:
        """Log-probabilities (N, V) of the words after `words`, and the state."""
        raise NotImplementedError

    def forward(self, grid: Tensor, captions: Tensor) -> Tensor:
        """Grids (B, P, D) and padded captions (N, T), those of an image adjacent → log-probabilities (N, T, V)."""
        image, state = self.encode(grid, len(captions) // len(grid)), self.start(len(captions))
        outputs = grid.new_zeros(*captions.shape, self.words.out_features)
        for step, words in enumerate(captions.t()):
            outputs[:, step], state = self.step(words, image, state)
        return outputs

    @torch.inference_mode()
    def greedy(self, grid: Tensor, steps: int) -> list[list[int]]:
        """Grids (B, P, D) → captions of `steps` words."""
        image, state = self.encode(grid, 1), self.start(len(grid))
        words = torch.ones(len(grid), dtype=torch.long)
        sequences = torch.zeros(len(grid), steps, dtype=torch.long)
        history = torch.zeros(len(grid), steps, self.words.out_features)
        open_rows = torch.ones(len(grid), dtype=torch.bool)  # a random network does not end its captions
        for step in range(steps):
            log_probs, state = self.step(words, image, state)
            _, words = log_probs.max(dim=1)
            if step:
                log_probs = log_probs * open_rows.unsqueeze(1).float()
            sequences[:, step], history[:, step] = words, log_probs
        self.step(words, image, state)  # it looks for <END> once more
        return sequences.tolist()

    @torch.inference_mode()
    def beam(self, grid: Tensor, width: int, steps: int) -> list[list[int]]:
        """The best caption of each image."""
        images, vocabulary = len(grid), self.words.out_features
        image, state = self.encode(grid, width), self.start(images * width)
        words = torch.ones(images * width, dtype=torch.long)
        scores = torch.full((images, width, 1), float("-inf"))
        scores[:, 0] = 0  # at first all beams of an image are equal
        sequences, history = words.new_empty(len(words), 0), grid.new_empty(len(words), 0, vocabulary)
        for _ in range(steps + 1):
            log_probs, state = self.step(words, image, state)
            best, places = (scores + log_probs.view(images, width, -1)).flatten(1).sort(dim=1, descending=True)
            scores, places = best[:, :width, None], places[:, :width]
            rows = (places // vocabulary + width * torch.arange(images).unsqueeze(1)).flatten()
            words = (places % vocabulary).flatten()
            state = state.select(rows)
            history = torch.cat([history[rows], log_probs[rows].unsqueeze(1)], dim=1)
            sequences = torch.cat([sequences[rows], words.unsqueeze(1)], dim=1)
        return sequences[::width].tolist()


class UpDownPeer(_StepByStep):
    """Up-Down: regions are mapped to H dimensions and to their keys once an image; two LSTMs and additive attention."""

    def __init__(self, vocabulary: int, hidden: int, attention: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.grid, self.mean = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.keys, self.query, self.score = (
            nn.Linear(hidden, attention),
            nn.Linear(hidden, attention),
            nn.Linear(attention, 1),
        )
        self.attention_cell, self.language_cell = nn.LSTMCell(3 * hidden, hidden), nn.LSTMCell(2 * hidden, hidden)
        self.words, self.dropout = nn.Linear(hidden, vocabulary), nn.Dropout(0.5)
        self.hidden = hidden

    def encode(self, grid: Tensor, each: int) -> tuple[Tensor, ...]:
        regions = self.dropout(torch.relu(self.grid(grid)))
        image = (self.dropout(torch.relu(self.mean(grid.mean(1)))), regions, self.keys(regions))
        return image if each == 1 else tuple(part.repeat_interleave(each, 0) for part in image)

    def start(self, rows: int) -> _Rows:
        return _Rows(tuple(torch.zeros(rows, self.hidden) for _ in range(4)))

    def step(self, words: Tensor, image: tuple[Tensor, ...], state: _Rows) -> tuple[Tensor, _Rows]:
        (mean, regions, keys), (h1, c1, h2, c2) = image, state.parts
        word = self.dropout(torch.relu(self.embedding(words)))
        h1, c1 = self.attention_cell(torch.cat([h2, mean, word], dim=1), (h1, c1))
        energy = self.score(torch.tanh(keys + self.query(h1).unsqueeze(1))).squeeze(2)
        context = torch.bmm(torch.softmax(energy, dim=1).unsqueeze(1), regions).squeeze(1)
        h2, c2 = self.language_cell(torch.cat([context, h1], dim=1), (h2, c2))
        return torch.log_softmax(self.words(self.dropout(h2)), dim=1), _Rows((h1, c1, h2, c2))


class TransformerPeer(_StepByStep):
    """The transformer: torch's own layers, pre-norm, sinusoidal positions.

    encodes_images_once: in training the encoder reads each image once, not once per caption. The public design does
    not do so; it shows how much of a difference is due to that.
    """

    def __init__(
        self,
        vocabulary: int,
        hidden: int,
        features: int,
        layers: int,
        heads: int,
        feed_forward: int,
        *,
        encodes_images_once: bool = False,
    ) -> None:
        super().__init__()
        self.embedding, self.grid = nn.Embedding(vocabulary, hidden), nn.Linear(features, hidden)
        settings = {"dropout": 0.1, "batch_first": True, "norm_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(hidden, heads, feed_forward, **settings),
            layers,
            nn.LayerNorm(hidden),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(hidden, heads, feed_forward, **settings), layers, nn.LayerNorm(hidden)
        )
        self.words, self.dropout = nn.Linear(hidden, vocabulary), nn.Dropout(0.1)
        self.hidden, self.encodes_images_once = hidden, encodes_images_once

    def encode(self, grid: Tensor, each: int) -> tuple[Tensor, ...]:
        regions = self.dropout(torch.relu(self.grid(grid)))
        if self.training and not self.encodes_images_once:
            return (self.encoder(regions.repeat_interleave(each, 0)),)
        memory = self.encoder(regions)
        return (memory if each == 1 else memory.repeat_interleave(each, 0),)

    def start(self, rows: int) -> _Rows:
        return _Rows((torch.empty(rows, 0, dtype=torch.long),))

    def decode(self, words: Tensor, memory: Tensor) -> Tensor:
        """Words (N, T) → hidden states (N, T, H)."""
        position = torch.arange(words.shape[1])[:, None]
        angle = position / 10000 ** (torch.arange(0, self.hidden, 2) / self.hidden)
        positions = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        mask = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool).triu(1)
        words = self.dropout(math.sqrt(self.hidden) * self.embedding(words) + positions)
        return self.decoder(words, memory, tgt_mask=mask)

    def step(self, words: Tensor, image: tuple[Tensor, ...], state: _Rows) -> tuple[Tensor, _Rows]:
        prefix = torch.cat([state.parts[0], words.unsqueeze(1)], dim=1)
        return torch.log_softmax(self.words(self.decode(prefix, image[0])[:, -1]), dim=1), _Rows((prefix,))

    def forward(self, grid: Tensor, captions: Tensor) -> Tensor:
        """Grids (B, P, D) and padded captions (N, T), those of an image adjacent → log-probabilities (N, T, V)."""
        (memory,) = self.encode(grid, len(captions) // len(grid))
        return F.log_softmax(self.words(self.decode(captions, memory)), dim=2)
