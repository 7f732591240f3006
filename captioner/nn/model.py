"""An encoder and a decoder, side by side: what a checkpoint holds."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.encoders.encoder import Encoder
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, DecoderState, DecoderStep, ImageFeatures


class Decoder(Protocol):
    """What every decoder offers: the whole caption under teacher forcing, and one word at a time."""

    needs_grid: bool

    def __call__(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Logits of all words, given the true words before them."""
        ...

    def init_state(self, features: ImageFeatures) -> DecoderState:
        """The state before the first word, one row an image."""
        ...

    def step(self, tokens: Int[Tensor, " N"], state: DecoderState) -> DecoderStep:
        """Read one word a row, say the next."""
        ...


class CaptioningModel(nn.Module):
    """Images → features → words. The two halves meet only in `ImageFeatures`."""

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @property
    def needs_grid(self) -> bool:
        """Does the decoder look at the grid, or at the vector only?"""
        return bool(self.decoder.needs_grid)

    def encode(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """Transformed images → features."""
        features: ImageFeatures = self.encoder(images)
        return features

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits, from features (of the cache or of `encode`)."""
        answer: DecoderOutput = self.decoder(features, captions)
        return answer
