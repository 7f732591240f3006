"""When images that are done leave the batch."""

from __future__ import annotations


def worth_shrinking(open_images: int, images: int) -> bool:
    """Should a batch of `images`, of which `open_images` are not done, shrink to these now?

    When half of it is done. Shrinking copies the grids of those that stay, which costs about a step of theirs;
    at each single image it would cost more than it saves (measured: see docs/decoding.md).
    """
    return 0 < open_images <= images / 2
