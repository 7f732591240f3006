"""A captioning model: an encoder and a decoder. Its parameters are what a checkpoint stores."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from captioner.nn.decoders.decoder import Decoder
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.packing import PackedCaptions
from captioner.nn.types import DecoderOutput, ImageFeatures


class CaptioningModel(nn.Module):
    """Images → features → captions. Encoder and decoder share nothing but `ImageFeatures`."""

    def __init__(self, encoder: Encoder, decoder: Decoder[Any]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @property
    def needs_grid(self) -> bool:
        """Whether the decoder reads the grid, or only the vector."""
        return self.decoder.needs_grid

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """The encoders whose features the decoder reads: one, or several of an ensemble."""
        return (self.encoder,)

    def needs_grid_of(self, encoder: int) -> bool:
        """Whether the decoder reads the grid of `encoders[encoder]`."""
        return self.needs_grid

    def encode(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """The features of images that `Encoder.transform` has preprocessed."""
        features: ImageFeatures = self.encoder(images)
        return features

    def forward(self, features: ImageFeatures, captions: PackedCaptions) -> DecoderOutput:
        """Teacher-forced logits (M, V) of `captions`, from features that `encode` or the feature cache gives."""
        output: DecoderOutput = self.decoder(features, captions)
        return output
