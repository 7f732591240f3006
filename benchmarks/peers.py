"""Reference implementations of designs that other captioning projects use, for comparison in the same run.

They contain no code of those projects: each class does the work that determines the speed of such a design.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


class FusedLSTM(nn.Module):
    """No attention: the image as first input, torch's fused LSTM, one product with the output weights at the end."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.image = nn.Linear(features, embedding)
        self.lstm = nn.LSTM(embedding, hidden, batch_first=True)
        self.words = nn.Linear(hidden, vocabulary)

    def forward(self, image: Tensor, captions: Tensor, lengths: list[int]) -> Tensor:
        """Images (B, D) and padded captions (B, T) → packed logits (M, V) of all M words."""
        inputs = torch.cat([self.image(image).unsqueeze(1), self.embedding(captions)], dim=1)
        outputs, _ = self.lstm(pack_padded_sequence(inputs, lengths, batch_first=True))
        return self.words(outputs.data)


class AttentionStepByStep(nn.Module):
    """Attention with all work inside the loop: the grid is projected and the logits are computed at every step."""

    def __init__(self, vocabulary: int, embedding: int, hidden: int, attention: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.keys, self.query = nn.Linear(features, attention), nn.Linear(hidden, attention)
        self.score, self.gate = nn.Linear(attention, 1), nn.Linear(hidden, features)
        self.cell = nn.LSTMCell(embedding + features, hidden)
        self.init_h, self.init_c = nn.Linear(features, hidden), nn.Linear(features, hidden)
        self.words = nn.Linear(hidden, vocabulary)

    def attend(self, grid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Gated context (N, D) and weights (N, P)."""
        energy = self.score(torch.relu(self.keys(grid) + self.query(h).unsqueeze(1))).squeeze(2)
        weights = torch.softmax(energy, dim=1)
        return torch.sigmoid(self.gate(h)) * (grid * weights.unsqueeze(2)).sum(dim=1), weights

    def start(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """The initial state, from the mean of the grid."""
        mean = grid.mean(dim=1)
        return self.init_h(mean), self.init_c(mean)

    def forward(self, grid: Tensor, captions: Tensor, lengths: list[int]) -> Tensor:
        """Grids (B, P, D) and captions (B, T), longest first → logits (B, T, V)."""
        h, c = self.start(grid)
        logits = grid.new_zeros(len(grid), max(lengths), self.words.out_features)
        embedded = self.embedding(captions)
        for step in range(max(lengths)):
            rows = sum(length > step for length in lengths)
            context, _ = self.attend(grid[:rows], h[:rows])
            h, c = self.cell(torch.cat([embedded[:rows, step], context], dim=1), (h[:rows], c[:rows]))
            logits[:rows, step] = self.words(h)
        return logits

    @torch.inference_mode()
    def beam(self, grid: Tensor, width: int, steps: int) -> list[int]:
        """Beam search for one image (1, P, D): the grid is copied to each beam, and all K · V scores are sorted."""
        grid = grid.expand(width, -1, -1).contiguous()
        h, c = self.start(grid)
        words, scores = torch.full((width,), 1), torch.zeros(width, 1)
        sequences = words.unsqueeze(1)
        for step in range(steps):
            context, _ = self.attend(grid, h)
            h, c = self.cell(torch.cat([self.embedding(words), context], dim=1), (h, c))
            totals = scores + torch.log_softmax(self.words(h), dim=1)
            flat = totals[0] if step == 0 else totals.view(-1)
            best, places = flat.sort(descending=True)
            beams, words = places[:width] // totals.shape[1], places[:width] % totals.shape[1]
            h, c, scores = h[beams], c[beams], best[:width].unsqueeze(1)
            sequences = torch.cat([sequences[beams], words.unsqueeze(1)], dim=1)
        return [int(word) for word in sequences[0]]
