"""What one call of `Captioner.caption` asks for, whichever side captions."""

from __future__ import annotations

from dataclasses import dataclass

from captioner.config import DecodeConfig
from captioner.decode.constrained import Constraints


@dataclass(frozen=True)
class CaptionRequest:
    """What one call of `Captioner.caption` asks for, checked.

    decode: the search. alternatives: how many of the next best captions. tags: whether captions have tags.
    constraints: the words that captions must and must not have.
    """

    decode: DecodeConfig
    alternatives: int = 0
    tags: bool = False
    constraints: Constraints | None = None

    @property
    def weighs_classes(self) -> bool:
        """Whether the search weighs what the encoder's classifier sees."""
        return self.decode.name == "beam" and self.decode.class_weight > 0

    @property
    def needs_classes(self) -> bool:
        """Whether the encoder's classifier is asked about the images."""
        return self.tags or self.weighs_classes
