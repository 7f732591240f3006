"""The word embedding of the recurrent decoders, and how large it is before training."""

from __future__ import annotations

from torch import nn


def word_embedding(vocabulary_size: int, embedding_dim: int, *, tied: bool) -> nn.Embedding:
    """E, for a decoder whose first layer maps words to the inputs of an RNN cell.

    Its elements are N(0, 1), as in the public code of att2in and Up-Down: after a layer by Glorot & Bengio (2010) words
    then move the gates by about 1. With ±0.1 they move them by 0.03 at first, and the cell takes many steps to tell
    words apart (docs/training.md). tied: it is the weight of the output layer too, and must be small, so that the first
    logits are; then U(−0.1, 0.1).
    """
    embedding = nn.Embedding(vocabulary_size, embedding_dim)
    if tied:
        nn.init.uniform_(embedding.weight, -0.1, 0.1)
    else:
        nn.init.normal_(embedding.weight)
    return embedding
