"""Show, Attend and Tell, soft or hard (Xu, Ba, Kiros, Cho, Courville, Salakhutdinov, Zemel, Bengio 2015).

For the annotations a_1 … a_P of an image and the words y_1 … y_T:

    h_0, c_0 = tanh(f_init(mean_i a_i))                                  section 3.1.2
    α_t      = softmax over i of f_att(a_i, h_{t−1})                     eq. 4–6
    z_t      = β_t Σ_i α_ti a_i,   β_t = σ(f_β(h_{t−1}))                 eq. 13, section 4.2.1
    h_t      = LSTM(E y_{t−1}, h_{t−1}, z_t)                             eq. 1–3
    p(y_t)   ∝ exp(L_o (E y_{t−1} + L_h h_t + L_z z_t))                  eq. 7, the deep output layer

and the loss gains λ Σ_i (1 − Σ_t α_ti)² so that every part of the image is context_weights at (eq. 14).
With more layers than one, h is the top layer's. Any cell works in the LSTM's place. With `grid_dim` a_i is first made
ReLU(W a_i + b) of so many numbers: less to look at at each word, so faster and smaller.

Hard attention puts one cell, drawn by lot, in the place of the mean Σ_i α_ti a_i: see `hard_attention`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import AttentionConfig
from captioner.nn.cells import Hidden
from captioner.nn.decoders.hard_attention import HardAttention, sampled_weights, seeds_of
from captioner.nn.layers.attention import attention_weights, build_attention, context, context_of_rows
from captioner.nn.layers.group_by_image import rows_of_captions
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack
from captioner.nn.layers.step_linear import StepLinear, deferred_weight_gradients
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures, rows_of_images


class AttentionDecoder(nn.Module):
    """Attention over the grid before every word."""

    needs_grid = True

    def __init__(self, config: AttentionConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        embedding_dim, hidden_dim = config.embedding_dim, config.hidden_dim
        self.grid = nn.Linear(feature_dim, config.grid_dim) if config.grid_dim else None  # not in the paper
        feature_dim = config.grid_dim or feature_dim
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.stack = RecurrentStack(
            config.cell, embedding_dim, hidden_dim, config.layers, config.dropout, residual=config.residual
        )
        score = "none" if config.attention == "none" else config.score
        self.attention = build_attention(score, feature_dim, hidden_dim, config.attention_dim)
        self.hard = HardAttention(config, vocabulary_size) if config.attention == "hard" else None
        self.context_to_gates = StepLinear(feature_dim, self.stack.input_columns, bias=False)
        gate_columns = {"scalar": 1, "vector": feature_dim, "none": 0}[config.gate]
        self.gate = StepLinear(hidden_dim, gate_columns) if gate_columns else None  # f_β
        self.init = nn.Linear(feature_dim, self.stack.states * config.layers * hidden_dim)  # f_init
        self.hidden_to_word = nn.Linear(hidden_dim, embedding_dim)  # L_h
        self.context_to_word = nn.Linear(feature_dim, embedding_dim, bias=False)  # L_z
        self.output = WordOutput(embedding_dim, self.embedding, config.dropout, config.tie_embeddings)  # L_o
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        for linear in (self.context_to_gates, self.init, self.hidden_to_word, self.context_to_word):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits (M, V) of every word of `captions`, given the words before it, and α (M, P)."""
        grid, keys, hidden = self._look_at_image(features)
        hidden = tuple(tensor.index_select(0, captions.images) for tensor in hidden)
        embedded = self.dropout(self.embedding(captions.inputs))  # (M, E)
        words = self.stack.project(embedded)  # (M, G·H): of all words at once
        tops, contexts, attention = [], [], []
        energies_of_rows = self.attention.batch_energies(keys)
        rows_by_image = rows_of_captions(captions, len(grid))
        sampler = None if self.hard is None else self.hard.sampler(features, captions)
        with deferred_weight_gradients(self):
            for going, step in captions.steps():
                hidden = tuple(tensor[:going] for tensor in hidden)
                rows, top = rows_by_image.first_rows(going), hidden[-self.stack.states]
                energies = energies_of_rows(self.attention.query(top), rows)
                if sampler is None:
                    weights = context_weights = attention_weights(energies)
                else:
                    weights, context_weights = sampler.sample(energies, step)
                seen = self._gated(context_of_rows(context_weights, grid, rows), top)
                top, hidden = self.stack.step(words[step] + self.context_to_gates(seen), hidden)
                tops.append(top)
                contexts.append(seen)
                attention.append(weights)
        logits = self._words(embedded, torch.cat(tops), torch.cat(contexts))
        answer = DecoderOutput(logits, torch.cat(attention))
        if sampler is None:
            return answer
        sampled, losses = sampler.losses()
        return answer._replace(sampled_attention=sampled, losses=losses)

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each: the grid and its keys are kept once an image.

        Where cells are drawn by lot, so is each image's seed, and each row counts its words.
        """
        grid, keys, hidden = self._look_at_image(features)
        if not self._draws:
            return DecoderState((grid, keys), hidden)
        seeds = seeds_of(features)
        return DecoderState((grid, keys, seeds), (torch.zeros_like(seeds), *hidden))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Look, read one word a row, say the next."""
        grid, keys, *seeds = state.image
        count, hidden = (state.hidden[:1], state.hidden[1:]) if self._draws else ((), state.hidden)
        top = hidden[-self.stack.states]
        energies = self.attention.energies(keys, self.attention.query(top))
        if self._draws:
            weights = sampled_weights(energies, rows_of_images(seeds[0], len(tokens)), count[0])
        else:
            weights = attention_weights(energies)
        seen = self._gated(context(weights, grid), top)
        embedded = self.embedding(tokens)
        top, hidden = self.stack.step(self.stack.project(embedded) + self.context_to_gates(seen), hidden)
        after = DecoderState(state.image, (*(one + 1 for one in count), *hidden))
        return DecoderStep(self._words(embedded, top, seen), after, weights)

    @property
    def _draws(self) -> bool:
        """Does a step look at one cell, or, as `forward` may as well, at the mean of all?"""
        return self.hard is not None and self.hard.at_test == "sample"

    def _look_at_image(self, features: ImageFeatures) -> tuple[Tensor, Tensor, Hidden]:
        """What is computed once an image: grid (B, P, D), keys (B, P, A), and the first state."""
        if features.grid is None:
            raise ValueError("the attention decoder needs the encoder's grid")
        grid = features.grid if self.grid is None else self.dropout(torch.relu(self.grid(features.grid)))
        first = torch.tanh(self.init(grid.mean(dim=1)))
        hidden = torch.split(first, self.stack.hidden_dim, dim=1)
        return grid, self.attention.keys(grid), tuple(hidden)

    def _gated(self, seen: Float[Tensor, "N D"], top: Float[Tensor, "N H"]) -> Float[Tensor, "N D"]:
        return seen if self.gate is None else torch.sigmoid(self.gate(top)) * seen

    def _words(
        self, embedded: Float[Tensor, "M E"], top: Float[Tensor, "M H"], seen: Float[Tensor, "M D"]
    ) -> Float[Tensor, "M V"]:
        """The deep output layer, eq. 7."""
        logits: Tensor = self.output(embedded + self.hidden_to_word(self.dropout(top)) + self.context_to_word(seen))
        return logits
