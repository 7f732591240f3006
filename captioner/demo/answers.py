"""Captions of an uploaded photo as JSON values: text, probability, score and attention weights."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from captioner.captioning.base_captioner import BaseCaptioner
from captioner.config import DecodeConfig
from captioner.config.checks import within
from captioner.data.images.decode import load_image_bytes
from captioner.errors import ConfigError, choose
from captioner.generated_caption import Caption

MAX_PIXELS = 64_000_000  # per photo; cameras have 12 to 50 million
MAX_CAPTIONS = 10  # per search
_PREVIEW = 1024  # longest side of the preview in pixels
_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    "beam_width": (int, 1, 20),
    "length_penalty": (float, 0, 3),
    "temperature": (float, 0.05, 5),
    "seed": (int, 0, 1_000_000),
}
_NAME = "This file"  # in error messages; the page adds the file's name


@dataclass(frozen=True)
class DemoModel:
    """A model and its name on the page."""

    name: str
    captioner: BaseCaptioner[Any, Any]

    def describe(self) -> dict[str, Any]:
        """Its name and one line about it, which the page shows above its captions."""
        return {"name": self.name, "about": self.captioner.about}


def parse_search(given: Mapping[str, str], default: DecodeConfig) -> DecodeConfig:
    """`default` with the settings of a query; ConfigError for an unknown setting or a value out of range."""
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
    return replace(default, **values)


def caption_photo(captioner: BaseCaptioner[Any, Any], photo: bytes, search: DecodeConfig) -> dict[str, Any]:
    """Caption a photo, given as the bytes of an image file; ImageError where it cannot be decoded.

    Returns seconds: from the file to the captions. captions, best first: `text`, `tokens`, `log_prob` (nats), `length`
    (tokens, <END> counted), `score`, `finished`, `unusable` (why, or null) and `attention` (T, rows,
    columns), null for a model without attention.
    resize: "squash" or "crop", how the image was made square; with "crop" the regions cover its central square.
    """
    start = time.perf_counter()
    image = load_image_bytes(photo, _NAME, captioner.transform.size, MAX_PIXELS, captioner.transform.stretch)
    alternatives = min(search.beam_width, MAX_CAPTIONS) - 1 if search.name == "beam" else 0
    best = captioner.caption(image, decode=search, alternatives=alternatives)
    return {
        "seconds": time.perf_counter() - start,
        "resize": captioner.transform.resize,
        "captions": [_to_json(caption) for caption in (best, *best.alternatives)],
    }


def preview(photo: bytes) -> bytes:
    """A small JPEG file of the photo as the model gets it: upright, on white, the first frame."""
    image = load_image_bytes(photo, _NAME, _PREVIEW // 2, MAX_PIXELS)
    image.thumbnail((_PREVIEW, _PREVIEW), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()


def _to_json(caption: Caption) -> dict[str, Any]:
    """A caption as JSON values; attention weights are rounded to 6 digits."""
    return {
        "text": caption.text,
        "tokens": list(caption.tokens),
        "log_prob": caption.log_prob,
        "length": len(caption.tokens) + caption.finished,
        "score": caption.score,
        "finished": caption.finished,
        "unusable": caption.unusable,
        "confidence": caption.confidence,
        "unlike_training": caption.unlike_training,
        "tags": None if caption.tags is None else [tag._asdict() for tag in caption.tags],
        "attention": None if caption.attention is None else caption.attention.round(6).tolist(),
    }
