"""Decodes any image from any source to RGB, as an image viewer shows it.

Training, evaluation and captioning use the same function, so they always see the same pixels. Color profiles (ICC) are
not applied, as is usual for captioning models.
"""

from __future__ import annotations

import io
import struct
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from captioner.data.image_views import ImageViews
from captioner.data.images.depth import (
    color_to_8_bits,
    deep_color_mode,
    gray_to_8_bits,
    is_deep_gray,
    stretch_8_bits,
    with_lower_bytes,
)
from captioner.data.images.heif import HEIF_SUFFIXES, enable_heif, heif_is_readable, is_heif
from captioner.data.stored_image import StoredImage
from captioner.errors import ImageError

if TYPE_CHECKING:
    import torch

ImageSource: TypeAlias = "str | Path | StoredImage | bytes | Image.Image | np.ndarray | torch.Tensor"

# fmt: off
_SUFFIXES = frozenset({
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo",
    ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
})
# fmt: on

IMAGE_SUFFIXES = _SUFFIXES | HEIF_SUFFIXES if heif_is_readable() else _SUFFIXES
"""File suffixes of the images that can be read here."""

MAX_PIXELS = 178_956_970  # twice Pillow's MAX_IMAGE_PIXELS, beyond which Pillow also raises an error

# Without EPS and the like, which Pillow decodes with external programs.
_FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000"]
if "avif" in features.modules and features.check_module("avif"):  # Pillow 11.3 added it
    _FORMATS.append("AVIF")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → the operation that makes the stored image upright (EXIF 2.3, section 4.6.4, tag 0x0112)."""

_ORIENTATION = 0x0112


def load_image(source: ImageSource, at_least: int | None = None, stretch: str = "none") -> Image.Image:
    """The image as a new PIL image of mode RGB: upright, on white if it is transparent, the first of several frames.

    source: a path, or a `StoredImage`, such as an image in a tar archive; the bytes of an image file; a PIL image of
        any mode; a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); a tensor (3, H, W), (1, H, W)
        or (4, H, W). Arrays and tensors hold uint8, or floats in [0, 1].
    at_least: the number of pixels that the shorter side needs. A JPEG file more than four times as large is decoded at
        1/2, 1/4 or 1/8 of its size, but never below twice `at_least`, which is much faster.

    stretch: "percentile" to spread the values that the image uses over all of 0 to 255 (`captioner.data.images.depth`).

    The views of a sample (`ImageViews`) are one image in which they are beside each other, which is for the eye only: a
    model reads them one by one.

    Images with more than 8 bits a channel are scaled to 8 bits. ImageError, with the file and the reason, for anything
    that cannot be decoded completely.
    """
    if isinstance(source, np.ndarray):
        return _stretched(_from_array(source, "The array"), stretch)
    if _is_tensor(source):
        return _stretched(_from_tensor(source), stretch)
    if isinstance(source, Image.Image):
        return _decode(source, "The PIL image", stretch)
    if isinstance(source, bytes):
        return load_image_bytes(source, "The image given as bytes", at_least, stretch=stretch)
    if isinstance(source, ImageViews):
        return beside_each_other([load_image(view, at_least, stretch) for view in source.views])
    if isinstance(source, StoredImage):
        try:
            content = source.read_bytes()
        except OSError as error:
            raise ImageError(f"{source} cannot be read: {error.strerror}.") from error
        return _open(io.BytesIO(content), f"{source}", len(content), at_least, stretch)
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            if path.is_dir():
                raise ImageError(f"{source} is a folder. Expected an image.")
            with path.open("rb") as file:
                return _open(file, f"{source}", path.stat().st_size, at_least, stretch)
        except FileNotFoundError as error:
            raise ImageError(f"{source} does not exist. Expected an image.") from error
        except (OSError, ValueError) as error:
            raise ImageError(f"{source} cannot be read: {error}.") from error
    raise ImageError(
        f"A {type(source).__name__} is not an image. "
        "Expected a path, the bytes of a file, a PIL image, a NumPy array or a tensor."
    )


def beside_each_other(images: Sequence[Image.Image]) -> Image.Image:
    """The images in a row, all resized to the size of the first: how the views of a sample are shown."""
    width, height = images[0].size
    row = Image.new("RGB", (width * len(images), height))
    for number, image in enumerate(images):
        row.paste(image if image.size == (width, height) else image.resize((width, height)), (number * width, 0))
    return row


def load_image_bytes(
    content: bytes, name: str, at_least: int | None = None, max_pixels: int = MAX_PIXELS, stretch: str = "none"
) -> Image.Image:
    """`load_image` for the content of a file. name: of the file, for messages. ImageError beyond `max_pixels`."""
    return _open(io.BytesIO(content), name, len(content), at_least, stretch, max_pixels)


def image_size(path: Path | StoredImage) -> tuple[int, int]:
    """(width, height) of an image file as stored, before any EXIF rotation. Reads only the header."""
    try:
        with (
            path.open("rb") if isinstance(path, Path) else io.BytesIO(path.read_bytes()) as file,
            Image.open(file, formats=_formats(file, f"{path}")) as image,
        ):
            return int(image.width), int(image.height)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read as an image: {error}.") from error


def _formats(file: io.BufferedReader | io.BytesIO, name: str) -> list[str]:
    """The formats as which Pillow may open this file. ImageError for a HEIC image that cannot be read here."""
    head = file.read(12)
    file.seek(0)
    if not is_heif(head):
        return _FORMATS
    enable_heif(name)
    return ["HEIF"]


def _open(
    file: io.BufferedReader | io.BytesIO,
    name: str,
    size: int,
    at_least: int | None,
    stretch: str,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes). Expected an image.")
    try:
        with warnings.catch_warnings():  # Pillow warns about unusual metadata
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_formats(file, name)) as image:
                _check_size(image, name, max_pixels)
                if at_least is not None and min(image.size) > 4 * at_least:
                    image.draft(None, (2 * at_least, 2 * at_least))
                if stretch == "none" or deep_color_mode(image) is None:
                    return _decode(image, name, stretch, is_ours=True)
            return _stretched_color(file, name)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(_unidentified(file, name)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: {error} Expected {max_pixels:,} pixels at most.") from error
    except Exception as error:  # damaged bytes make decoders raise almost anything
        raise ImageError(f"{name} cannot be decoded: {error or type(error).__name__}. It may be damaged.") from error


def _unidentified(file: io.BufferedReader | io.BytesIO, name: str) -> str:
    """The message for a file that Pillow cannot identify."""
    file.seek(0)
    if file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return (
            f"{name} is a TIFF file of a kind that Pillow cannot read: with more than four bands of 16 bits, for "
            "example, or with color of 32 bits. Write three of its bands as 8 or 16 bits, for example with "
            "gdal_translate -b 4 -b 3 -b 2 -ot UInt16 IN.tif OUT.tif."
        )
    return f"{name} is not an image in a supported format ({', '.join(_FORMATS)})."


def _decode(image: Image.Image, name: str, stretch: str, is_ours: bool = False) -> Image.Image:
    """A PIL image of any mode → a new, upright one of mode RGB. is_ours: the image may be closed, to free memory."""
    try:
        image.load()
        turn = _UPRIGHT.get(orientation(image))
        if is_deep_gray(image):
            rgb, stretch = gray_to_8_bits(image, stretch), "none"
            if is_ours:
                image.close()
        else:
            rgb = _to_rgb(image)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} cannot be decoded: {error or type(error).__name__}. It may be damaged.") from error
    if turn is not None:
        rgb = rgb.transpose(turn)
    if rgb.mode != "RGB":
        rgb = rgb.convert("RGB")
    return _stretched(rgb.copy() if rgb is image else rgb, stretch)


def _stretched_color(file: io.BufferedReader | io.BytesIO, name: str) -> Image.Image:
    """A 16-bit RGB image, stretched with all its bits. PIL gives 8 of them at a time, so it is decoded twice."""
    halves = []
    for decode_lower in (False, True):
        file.seek(0)
        half = Image.open(file, formats=_formats(file, name))
        if decode_lower:
            with_lower_bytes(half)
        half.load()
        halves.append(half)
    upper, lower = halves
    turn = _UPRIGHT.get(orientation(upper))
    rgb = color_to_8_bits(*(half if half.mode == "RGB" else half.convert("RGB") for half in (upper, lower)))
    return rgb if turn is None else rgb.transpose(turn)


def _stretched(image: Image.Image, stretch: str) -> Image.Image:
    return stretch_8_bits(image) if stretch == "percentile" else image


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageError(f"{name} has {pixels:,} pixels. Expected {max_pixels:,} at most.")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if there is none. Call after `load`: PNG files may have it after the pixels."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1  # a damaged EXIF block: image viewers ignore it


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        if image.mode == "La":  # which converts to LA only
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")  # 1, L, P, RGB, CMYK, YCbCr, HSV


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    converted = ImageCms.applyTransform(image, to_srgb)
    assert converted is not None  # None only when converting in place
    return converted


def _is_tensor(source: object) -> TypeGuard[torch.Tensor]:
    """Whether `source` is a tensor. There is none before torch was imported, which this module leaves to others."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(source, torch.Tensor)


def _from_tensor(tensor: torch.Tensor) -> Image.Image:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise ImageError(f"A tensor of shape {tuple(tensor.shape)} is not an image. Expected (3, height, width).")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return _from_array(tensor.permute(1, 2, 0).numpy(), "The tensor")


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or array.size == 0:
        raise ImageError(
            f"{name} has the shape {array.shape}. "
            "Expected (height, width), or (height, width, channels) with 1, 3 or 4 channels."
        )
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-3 and high <= 1 + 1e-3):  # also for NaN; interpolation may overshoot a little
            raise ImageError(f"{name} holds floats from {low:g} to {high:g}. Expected 0 to 1.")
        array = np.round(array.astype(np.float64).clip(0, 1) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ImageError(f"{name} holds {array.dtype}. Expected uint8 (0 to 255), or floats from 0 to 1.")
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))
