"""The recurrent language model: the probability of each token, given all tokens before it.

    x_t = E · token_t
    h_t = cell(x_t, h_{t−1})                        in one layer or more
    p(token_{t+1} | token_1 … token_t) = softmax(W h_t + b)

With a vanilla cell and one-hot x this is min-char-rnn (Karpathy 2015); over words, Mikolov et al. (2010).
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.config import LanguageNetworkConfig
from captioner.nn.cells import Hidden
from captioner.nn.layers.dropout import Dropout
from captioner.nn.layers.output import WordOutput
from captioner.nn.layers.stack import RecurrentStack


class LanguageModel(nn.Module):
    """Token embedding → recurrent layers → logits of the next token, over B streams of text."""

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
        self.dropout = Dropout(config.dropout)
        # As large as one-hot inputs; with smaller inputs the gates take many more steps to differ. An embedding that
        # is also the output weight must be small, so that the first logits are.
        nn.init.normal_(self.embedding.weight, std=0.1 if config.tie_embeddings else 1.0)

    def initial(self, streams: int) -> Hidden:
        """The state before the first token: zeros (streams, H), on the model's device."""
        return self.stack.initial(self.embedding.weight.new_empty(streams, 0))

    def forward(self, tokens: Int[Tensor, "B T"], hidden: Hidden) -> tuple[Float[Tensor, "B T V"], Hidden]:
        """Read T tokens of each stream. Returns the logits of the token after each, and the state after the last."""
        streams, steps = tokens.shape
        step_by_step = tokens.t().reshape(-1)  # (T·B,)
        inputs = self.stack.project(self.dropout(self.embedding(step_by_step)))
        tops, hidden = self.stack.sequence_and_state(inputs, [streams] * steps, hidden)
        logits = self.output(tops).view(steps, streams, -1).transpose(0, 1)
        return logits, hidden

    def step(self, tokens: Int[Tensor, " N"], hidden: Hidden) -> tuple[Float[Tensor, "N V"], Hidden]:
        """Read one token per stream. Returns the logits of the next token, and the state."""
        top, hidden = self.stack.step(self.stack.project(self.embedding(tokens)), hidden)
        return self.output(top), hidden
