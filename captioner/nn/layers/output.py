"""The output layer: from a hidden vector to the logits of the next word.

Its bias starts at zero, or in training at the log-frequencies of the words (`start_from_frequencies`), as in
NeuralTalk, the code of Karpathy & Fei-Fei (2015). From zero, all weights learn first how frequent each word is. The
fastest way there is a large constant h: it saturates the gates of an LSTM, which then learns slowly from words and
images. What that costs: docs/training.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.linear import Linear


class WordOutput(nn.Module):
    """logits = W·dropout(h) + b.

    tied (Press & Wolf 2017): W is the weight of the word embedding, after a linear map from H to E where they differ.
    """

    def __init__(self, input_dim: int, embedding: nn.Embedding, dropout: float, tied: bool) -> None:
        super().__init__()
        vocabulary_size, embedding_dim = embedding.weight.shape
        self.dropout = Dropout(dropout)
        needs_map = tied and input_dim != embedding_dim
        self.to_embedding = Linear(input_dim, embedding_dim, bias=False) if needs_map else nn.Identity()
        self.words = Linear(embedding_dim if tied else input_dim, vocabulary_size)
        if tied:
            self.words.weight = embedding.weight
        else:
            nn.init.xavier_uniform_(self.words.weight)
        nn.init.zeros_(self.words.bias)

    def start_from_frequencies(self, counts: Int[Tensor, " V"]) -> None:
        """b = log((c + 1) / Σ(c + 1)), c: how often each token is to be predicted. A small W·h then predicts that."""
        shares = (counts + 1).double()
        with torch.no_grad():
            self.words.bias.copy_((shares / shares.sum()).log())

    def forward(self, hidden: Float[Tensor, "M H"]) -> Float[Tensor, "M V"]:
        """Unnormalized logits."""
        vectors: Tensor = self.to_embedding(self.dropout(hidden))
        if torch.is_inference_mode_enabled() and _left_out.get() is self:
            return vectors
        logits: Tensor = self.words(vectors)
        return logits


@contextmanager
def without_words(output: WordOutput) -> Iterator[None]:
    """Inside, in inference mode, `output` returns what `output.words` would multiply: the caller asks for it later."""
    token = _left_out.set(output)
    try:
        yield
    finally:
        _left_out.reset(token)


_left_out: ContextVar[WordOutput | None] = ContextVar("_left_out", default=None)
"""The layer that leaves out its last product. Other threads, which may search with the same layer, do not see it."""
