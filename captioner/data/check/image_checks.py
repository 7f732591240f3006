"""Checks image files: how each is stored, whether it can be decoded, and a hash to find copies."""

from __future__ import annotations

import hashlib
import io
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from captioner.data.dataset import ImagePath
from captioner.data.datasets.annotation_files import path_exists
from captioner.data.images.decode import load_image, orientation
from captioner.errors import ImageError

HUGE = 25_000_000  # pixels; decoding takes as long as for eighty images of COCO
MIN_FOR_PROCESSES = 500  # images; for fewer, starting processes takes longer than the check

NARROW = 1 / 8  # of the range from black to white
DEEP = "more than 8 bits"
_SAMPLES_PER_PIXEL, _EXTRA_SAMPLES = 277, 338  # TIFF 6.0, sections 8 and 18

_MODES = {
    "1": "black and white",
    "L": "gray",
    "LA": "transparent",
    "PA": "transparent",
    "RGBA": "transparent",
    "P": "palette",
    "F": DEEP,
    "I": DEEP,
}
"""PIL's mode → a description; other modes (CMYK, YCbCr, LAB) are reported by their name."""


@dataclass(frozen=True)
class Inspection:
    """The result for one image file. If `fault` is not None, only `path` and `reason` are set besides."""

    path: ImagePath
    fault: str | None = None  # missing, empty or damaged
    reason: str = ""  # of the fault
    mode: str = "RGB"  # or gray, black and white, palette, transparent, more than 8 bits, CMYK, …
    rotated: bool = False  # EXIF specifies a rotation or a flip
    pixels: int = 0
    digest: bytes = b""  # SHA-256 of the file
    bands: int = 3  # channels that are stored, where there are more than 3 and the others are not transparency
    used: float = 1.0  # fraction of the range from black to white that an image with more than 8 bits uses


def inspect_images(
    paths: Sequence[ImagePath], workers: int = 0, progress: bool = True
) -> tuple[list[Inspection], float]:
    """(the results for all images, images per second with all `workers`). Reads, hashes and decodes every image."""
    start = time.perf_counter()
    bar = tqdm(total=len(paths), desc="images", disable=not progress, unit="image")
    inspections = []
    with bar:
        if workers > 1 and len(paths) >= MIN_FOR_PROCESSES:
            with ProcessPoolExecutor(workers) as pool:
                for inspection in pool.map(inspect_image, paths, chunksize=32):
                    inspections.append(inspection)
                    bar.update()
        else:
            for path in paths:
                inspections.append(inspect_image(path))
                bar.update()
    return inspections, len(paths) / max(time.perf_counter() - start, 1e-9)


def inspect_image(path: ImagePath) -> Inspection:
    """The result for one image file. Problems of the file are returned, not raised."""
    if isinstance(path, Path) and not path_exists(path):
        return Inspection(path, "missing", f"{path} does not exist.")
    try:
        darkest, brightest = _extremes(load_image(path))
        data = path.read_bytes()
    except (ImageError, OSError) as error:
        return Inspection(path, "empty" if _is_empty(path) else "damaged", str(error))
    with warnings.catch_warnings():  # about unusual metadata, as in `load_image`
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            mode, bands = _mode(image), _bands(image)
            pixels = image.width * image.height
            rotated = orientation(image) in range(2, 9)
    used = (brightest - darkest) / 255 if mode == DEEP and not _is_of_one_value(path, darkest, brightest) else 1.0
    return Inspection(path, None, "", mode, rotated, pixels, hashlib.sha256(data).digest(), bands, used)


def _is_of_one_value(path: ImagePath, darkest: int, brightest: int) -> bool:
    """Whether all pixels have one value: in 8 bits, and also with all the bits that are stored."""
    if darkest < brightest:
        return False
    low, high = _extremes(load_image(path, stretch="percentile"))
    return low == high


def _extremes(image: Image.Image) -> tuple[int, int]:
    """The lowest and the highest value of all channels of an RGB image."""
    counts = np.asarray(image.histogram()).reshape(3, 256).sum(axis=0)
    (values,) = np.nonzero(counts)
    return int(values[0]), int(values[-1])


def _bands(image: Image.Image) -> int:
    """The channels of a TIFF image whose further ones are no transparency; 3 for other images."""
    tags = getattr(image, "tag_v2", {})
    bands, extra = int(tags.get(_SAMPLES_PER_PIXEL, 1)), tags.get(_EXTRA_SAMPLES, ())
    return bands if bands > 3 and not {1, 2} & set(extra) and image.mode in ("RGB", "RGBX") else 3


def _is_empty(path: ImagePath) -> bool:
    return path.is_file() and path.stat().st_size == 0 if isinstance(path, Path) else path.byte_count() == 0


def _mode(image: Image.Image) -> str:
    if "transparency" in image.info:
        return "transparent"
    if any(";16" in str(tile) for tile in getattr(image, "tile", [])):  # 16-bit color, for which PIL's mode is RGB
        return DEEP
    return _MODES.get(image.mode.partition(";")[0], image.mode)
