"""The decoder of the lecture: a recurrent network that sees the image at every step.

    h = tanh(Wxh·x + Whh·h + Wih·v)         (CS231n 2016, lecture 10)

and in the LSTM and the GRU v enters every gate the same way. Tanti et al. (2017) call this
par-injection.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor, nn

from captioner.config import RecurrentConfig
from captioner.nn.output import WordOutput
from captioner.nn.packing import PackedCaptions
from captioner.nn.stack import RecurrentStack
from captioner.nn.state import DecoderState, ImageFeatures, Step, TeacherForced, rows_of_images


class RecurrentDecoder(nn.Module):
    """Word embedding x and image vector v → gates → h, one layer or more → the next word.

    v enters the first layer; the layers above read the layer below. The state starts at zero.
    """

    needs_grid = False

    def __init__(self, config: RecurrentConfig, vocabulary_size: int, feature_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, config.embedding_dim)
        self.stack = RecurrentStack(config.cell, config.embedding_dim, config.hidden_dim, config.layers, config.dropout)
        self.image = nn.Linear(feature_dim, self.stack.input_columns, bias=False)  # Wih, all gates at once
        self.output = WordOutput(config.hidden_dim, self.embedding, config.dropout, config.tie_embeddings)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.xavier_uniform_(self.image.weight)

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> TeacherForced:
        """Logits (M, V) of every word of `captions`, given the words before it."""
        words = self.stack.project(self.dropout(self.embedding(captions.inputs)))  # (M, G·H)
        image = self.image(self.dropout(features.vector))  # (B, G·H), once an image
        inputs = words + image.index_select(0, captions.images.index_select(0, captions.rows))
        outputs = self.stack.sequence(inputs, captions.batch_sizes)  # (M, H)
        return TeacherForced(self.output(outputs))

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """B images, one row each; the image's part of the gates is computed here, once."""
        image = self.image(features.vector)
        return DecoderState((image,), self.stack.initial(image))

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> Step:
        """Read one word a row, say the next."""
        (image,) = state.image
        inputs = self.stack.project(self.embedding(tokens)) + rows_of_images(image, len(tokens))
        top, hidden = self.stack.step(inputs, state.hidden)
        return Step(self.output(top), DecoderState(state.image, hidden))
