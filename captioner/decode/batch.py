"""When finished images leave the batch."""

from __future__ import annotations

# Dropping copies the grids of the images that stay, about as dear as one step of theirs, and saves the
# steps that the finished ones would still be carried along: see docs/decoding.md for the measurement.
WORTH_DROPPING = 0.25


def worth_dropping(open_images: int, images: int) -> bool:
    """Should a batch of `images`, of which `open_images` are not done, be made smaller now?"""
    return 0 < open_images <= (1 - WORTH_DROPPING) * images
