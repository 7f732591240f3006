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

    @torch.inference_mode()
    def greedy(self, image: Tensor, steps: int) -> list[list[int]]:
        """Images (B, D) → captions of `steps` words: no log-probabilities, and no row ends early."""
        inputs, state, words = self.image(image).unsqueeze(1), None, []
        for _ in range(steps + 1):
            outputs, state = self.lstm(inputs, state)
            words.append(self.words(outputs.squeeze(1)).argmax(dim=1))
            inputs = self.embedding(words[-1]).unsqueeze(1)
        return torch.stack(words, dim=1).tolist()


class MaxoutAttention(nn.Module):
    """att2in2: the grid is mapped to H dimensions and to its keys once an image; attention into a maxout LSTM.

    Every row is computed at every step, padded or finished, with a log-softmax over the vocabulary; the
    log-probabilities are written into one tensor, as in `later_peers.py`. Dropout on words, regions and h.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, attention: int, features: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.grid, self.keys = nn.Linear(features, hidden), nn.Linear(hidden, attention)
        self.query, self.score = nn.Linear(hidden, attention), nn.Linear(attention, 1)
        self.from_word, self.from_hidden = nn.Linear(embedding, 5 * hidden), nn.Linear(hidden, 5 * hidden)
        self.from_context = nn.Linear(hidden, 2 * hidden)
        self.words, self.dropout = nn.Linear(hidden, vocabulary), nn.Dropout(0.5)
        self.hidden = hidden

    def encode(self, grid: Tensor, each: int) -> tuple[Tensor, Tensor]:
        """Grids (B, P, D) → mapped grid (N, P, H) and keys (N, P, A) of N = B·each rows, copied to the rows."""
        grid = self.dropout(torch.relu(self.grid(grid)))
        keys = self.keys(grid)
        return (grid, keys) if each == 1 else (grid.repeat_interleave(each, 0), keys.repeat_interleave(each, 0))

    def step(self, words: Tensor, grid: Tensor, keys: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities (N, V) of the words after `words`, and the state."""
        energy = self.score(torch.tanh(keys + self.query(h).unsqueeze(1))).squeeze(2)
        context = torch.bmm(torch.softmax(energy, dim=1).unsqueeze(1), grid).squeeze(1)
        sums = self.from_word(self.dropout(torch.relu(self.embedding(words)))) + self.from_hidden(h)
        i, f, o = torch.sigmoid(sums[:, : 3 * self.hidden]).chunk(3, dim=1)
        first, second = (sums[:, 3 * self.hidden :] + self.from_context(context)).chunk(2, dim=1)
        c = f * c + i * torch.maximum(first, second)
        h = o * torch.tanh(c)
        return torch.log_softmax(self.words(self.dropout(h)), dim=1), h, c

    def forward(self, grid: Tensor, captions: Tensor) -> Tensor:
        """Grids (B, P, D) and padded captions (N, T), those of an image adjacent → log-probabilities (N, T, V)."""
        grid, keys = self.encode(grid, len(captions) // len(grid))
        h = c = grid.new_zeros(len(captions), self.hidden)
        outputs = grid.new_zeros(*captions.shape, self.words.out_features)
        for step, words in enumerate(captions.t()):
            outputs[:, step], h, c = self.step(words, grid, keys, h, c)
        return outputs

    @torch.inference_mode()
    def greedy(self, grid: Tensor, steps: int) -> list[list[int]]:
        """Grids (B, P, D) → captions of `steps` words."""
        grid, keys = self.encode(grid, 1)
        h = c = grid.new_zeros(len(grid), self.hidden)
        words = torch.ones(len(grid), dtype=torch.long)
        sequences = torch.zeros(len(grid), steps, dtype=torch.long)
        history = torch.zeros(len(grid), steps, self.words.out_features)
        open_rows = torch.ones(len(grid), dtype=torch.bool)  # a random network does not end its captions
        for step in range(steps):
            log_probs, h, c = self.step(words, grid, keys, h, c)
            _, words = log_probs.max(dim=1)
            if step:
                log_probs = log_probs * open_rows.unsqueeze(1).float()
            sequences[:, step], history[:, step] = words, log_probs
        self.step(words, grid, keys, h, c)  # it looks for <END> once more
        return sequences.tolist()

    @torch.inference_mode()
    def beam(self, grid: Tensor, width: int, steps: int) -> list[list[int]]:
        """The best caption of each image: all K · V scores are sorted, all log-probabilities kept and reordered."""
        images, vocabulary = len(grid), self.words.out_features
        grid, keys = self.encode(grid, width)
        h = c = grid.new_zeros(images * width, self.hidden)
        words = torch.ones(images * width, dtype=torch.long)
        scores = torch.full((images, width, 1), float("-inf"))
        scores[:, 0] = 0  # at first all beams of an image are equal
        sequences, history = words.new_empty(len(words), 0), grid.new_empty(len(words), 0, vocabulary)
        for _ in range(steps + 1):
            log_probs, h, c = self.step(words, grid, keys, h, c)
            best, places = (scores + log_probs.view(images, width, -1)).flatten(1).sort(dim=1, descending=True)
            scores, places = best[:, :width, None], places[:, :width]
            rows = (places // vocabulary + width * torch.arange(images).unsqueeze(1)).flatten()
            words = (places % vocabulary).flatten()
            h, c = h[rows], c[rows]
            history = torch.cat([history[rows], log_probs[rows].unsqueeze(1)], dim=1)
            sequences = torch.cat([sequences[rows], words.unsqueeze(1)], dim=1)
        return sequences[::width].tolist()


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
