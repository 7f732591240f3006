"""What one image file is: how it is stored, whether it decodes, and a hash by which copies are found."""

from __future__ import annotations

import hashlib
import io
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from captioner.data.dataset import ImagePath
from captioner.data.datasets.annotation_files import path_exists
from captioner.data.images.decode import load_image, orientation
from captioner.errors import ImageError

HUGE = 25_000_000  # pixels; such an image takes as long to decode as eighty of COCO's
WORTH_PROCESSES = 500  # images; starting processes takes longer than looking at fewer

_STORED = {
    "1": "black and white",
    "L": "grey",
    "LA": "transparent",
    "PA": "transparent",
    "RGBA": "transparent",
    "P": "palette",
    "F": "more than 8 bits",
    "I": "more than 8 bits",
}
"""PIL's mode → what a person calls it; other modes (CMYK, YCbCr, LAB) by their own name."""


@dataclass(frozen=True)
class Inspection:
    """One image. Where `fault` is not None, `why` says what is wrong, and the rest is not known."""

    path: ImagePath
    fault: str | None = None  # missing, empty or damaged
    why: str = ""
    stored: str = "RGB"  # or grey, black and white, palette, transparent, more than 8 bits, CMYK, …
    turned: bool = False  # EXIF says that it must be turned or mirrored
    pixels: int = 0
    digest: bytes = b""  # SHA-256 of the file


def inspect_images(
    paths: Sequence[ImagePath], workers: int = 0, progress: bool = True
) -> tuple[list[Inspection], float]:
    """Every image read, hashed and decoded whole; and how many a second that was, with all workers."""
    start = time.perf_counter()
    bar = tqdm(total=len(paths), desc="images", disable=not progress, unit="image")
    found = []
    with bar:
        if workers > 1 and len(paths) >= WORTH_PROCESSES:
            with ProcessPoolExecutor(workers) as pool:
                for inspection in pool.map(inspect_image, paths, chunksize=32):
                    found.append(inspection)
                    bar.update()
        else:
            for path in paths:
                found.append(inspect_image(path))
                bar.update()
    return found, len(paths) / max(time.perf_counter() - start, 1e-9)


def inspect_image(path: ImagePath) -> Inspection:
    """What the file is. Never raises for what may be wrong with an image."""
    if isinstance(path, Path) and not path_exists(path):
        return Inspection(path, "missing", f"{path} does not exist.")
    try:
        load_image(path)
        data = path.read_bytes()
    except (ImageError, OSError) as error:
        return Inspection(path, "empty" if _is_empty(path) else "damaged", str(error))
    with warnings.catch_warnings():  # as `load_image`, which has just decoded it
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            stored = _stored(image)
            pixels = image.width * image.height
            turned = orientation(image) in range(2, 9)
    return Inspection(path, None, "", stored, turned, pixels, hashlib.sha256(data).digest())


def _is_empty(path: ImagePath) -> bool:
    return path.is_file() and path.stat().st_size == 0 if isinstance(path, Path) else path.size == 0


def _stored(image: Image.Image) -> str:
    if "transparency" in image.info:
        return "transparent"
    if any(";16" in str(tile) for tile in getattr(image, "tile", [])):  # 16-bit color, which PIL calls RGB
        return "more than 8 bits"
    return _STORED.get(image.mode.partition(";")[0], image.mode)
