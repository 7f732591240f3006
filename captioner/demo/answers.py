"""What the page is told of a photo: captions, how probable they are, and where the model looked at each word."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from captioner.config import DecodeConfig
from captioner.config.checks import within
from captioner.data.images.decode import load_image_bytes
from captioner.errors import ConfigError, choose
from captioner.inference import Caption, Captioner

MOST_PIXELS = 64_000_000  # of a photo; a camera's have 12 to 50 million
MOST_SHOWN = 10  # captions of one search
_PREVIEW = 1024  # pixels a side, at most
_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    "beam_width": (int, 1, 20),
    "length_penalty": (float, 0, 3),
    "temperature": (float, 0.05, 5),
    "seed": (int, 0, 1_000_000),
}
_NAME = "This file"  # the page knows what it is called, and says so itself


@dataclass(frozen=True)
class ShownModel:
    """A captioner and what it is called on the page."""

    name: str
    captioner: Captioner

    def describe(self) -> dict[str, Any]:
        """What the page says of it before it has captioned anything."""
        settings = self.captioner.checkpoint.settings
        weights = sum(parameter.numel() for parameter in self.captioner.model.decoder.parameters())
        about = f"{settings.model.name} · {settings.encoder.name} · {len(self.captioner.vocabulary):,} words"
        return {"name": self.name, "about": f"{about} · {weights / 1e6:.1f} million weights beside the encoder's"}


def read_search(given: Mapping[str, str], usual: DecodeConfig) -> DecodeConfig:
    """The search that a page asks for: `usual`, with the settings in `given`; ConfigError says what is out of range."""
    values: dict[str, Any] = {}
    for key, text in given.items():
        if key == "search":
            values["name"] = choose(key, text, ("greedy", "sample", "beam"))
            continue
        kind, low, high = _RANGES[choose("setting", key, _RANGES)]
        try:
            values[key] = kind(text)
        except ValueError as error:
            raise ConfigError(f"{key}={text!r} is no number: expected one from {low:g} to {high:g}.") from error
        within(key, values[key], low, high)
    return replace(usual, **values)


def caption_photo(captioner: Captioner, photo: bytes, search: DecodeConfig) -> dict[str, Any]:
    """The captions of a photo, best first, as plain values; ImageError for what is no photo.

    seconds: from the file to the captions. captions: `text`, `tokens`, `log_prob` (nats), `length` (tokens, <END>
    counted), `score`, `finished`, and `attention`, a list of rows a token, or null. resize: "squash" or "crop", how
    the image was made square, and so where on it the attention's grid lies.
    """
    start = time.perf_counter()
    image = load_image_bytes(
        photo, _NAME, captioner.transform.size, MOST_PIXELS
    )  # the pixels that caption.py would see
    others = min(search.beam_width, MOST_SHOWN) - 1 if search.name == "beam" else 0
    best = captioner.caption(image, decode=search, alternatives=others)
    return {
        "seconds": time.perf_counter() - start,
        "resize": captioner.transform.resize,
        "captions": [_plain(caption) for caption in (best, *best.alternatives)],
    }


def preview(photo: bytes) -> bytes:
    """The photo as it is decoded here (upright, on white, the first frame), small, as a JPEG file for the page."""
    image = load_image_bytes(photo, _NAME, _PREVIEW // 2, MOST_PIXELS)
    image.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()


def _plain(caption: Caption) -> dict[str, Any]:
    return {
        "text": caption.text,
        "tokens": list(caption.tokens),
        "log_prob": caption.log_prob,
        "length": len(caption.tokens) + caption.finished,
        "score": caption.score,
        "finished": caption.finished,
        "attention": None if caption.attention is None else caption.attention.round(6).tolist(),
    }
