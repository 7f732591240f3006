"""The recurrent language model: what comes next, given all that came before.

    x_t = E · token_t
    h_t = cell(x_t, h_{t−1})                        one cell or more, one above the other
    p(token_{t+1} | token_1 … token_t) = softmax(W h_t + b)

With a vanilla cell and one-hot x this is Karpathy's min-char-rnn (2015); Mikolov et al. (2010) for words.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import LanguageNetworkConfig
from captioner.nn.cells import Hidden
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack


class LanguageModel(nn.Module):
    """Token embedding → stack of cells → logits of the next token, over B streams of text."""

    def __init__(self, config: LanguageNetworkConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_dim)
        self.stack = RecurrentStack(
            config.cell,
            config.embedding_dim,
            config.hidden_dim,
            config.layers,
            config.dropout,
            residual=config.residual,
        )
        self.output = WordOutput(config.hidden_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = nn.Dropout(config.dropout)
        # Inputs as large as one-hot ones: from small ones the gates start to differ many steps later. Where the
        # embedding is the output's weight too, it must be small for the first logits to be.
        nn.init.normal_(self.embedding.weight, std=0.1 if config.tie_embeddings else 1.0)

    def initial(self, streams: int) -> Hidden:
        """The state before anything was read: zeros, on the model's device."""
        return self.stack.initial(self.embedding.weight.new_empty(streams, 0))

    def forward(self, tokens: Int[Tensor, "B T"], hidden: Hidden) -> tuple[Float[Tensor, "B T V"], Hidden]:
        """Read T tokens of each stream: the logits of what follows each, and the state after the last."""
        streams, steps = tokens.shape
        read = tokens.t().reshape(-1)  # (T·B,), step by step
        inputs = self.stack.project(self.dropout(self.embedding(read)))
        tops, hidden = self.stack.sequence_and_state(inputs, [streams] * steps, hidden)
        logits = self.output(tops).view(steps, streams, -1).transpose(0, 1)
        return logits, hidden

    def step(self, tokens: Int[Tensor, " N"], hidden: Hidden) -> tuple[Float[Tensor, "N V"], Hidden]:
        """Read one token a stream: the logits of the next."""
        top, hidden = self.stack.step(self.stack.project(self.embedding(tokens)), hidden)
        return self.output(top), hidden
