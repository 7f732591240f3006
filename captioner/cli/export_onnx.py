"""`python -m captioner export --onnx DIR`: a captioner as ONNX files, which caption without torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.onnx.description import DESCRIPTION_FILE, OnnxDescription, check_photos
from captioner.errors import CaptionerError, CheckpointError

MOST_PHOTOS = 256  # for calibration; more change nothing and take longer


def export_onnx(arguments: argparse.Namespace) -> None:
    """Write the ONNX files that the flags of `captioner export` ask for."""
    photos = checked_photos(arguments)
    which = "latest" if arguments.latest else "best"
    find_checkpoint(Path(arguments.checkpoint), which)
    target: Path | None = arguments.onnx
    if target is not None:
        _check_target(target, replace=arguments.replace)

    from captioner.checkpoint.average import load_average
    from captioner.checkpoint.onnx.graphs import import_onnx
    from captioner.checkpoint.onnx.write import add_onnx, new_onnx_folder, onnx_files

    import_onnx()
    if target is None:
        loaded = load_average(Path(arguments.checkpoint), arguments.average, which=which)
        description, files = add_onnx(loaded), onnx_files(loaded.path)
        target = loaded.path
    else:
        with new_onnx_folder(target) as folder:
            description = write_checked(arguments, photos, folder)
        files = [path for path in target.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    sys.stdout.write(f"Written: {target} ({_describe(description)}, {size / 1e6:.2f} MB)\n")


def checked_photos(arguments: argparse.Namespace) -> list[Path]:
    """The photos of --photos, for calibration; CaptionerError where they and --precision do not fit each other."""
    precision = arguments.precision or "float32"
    if arguments.photos is not None and precision != "int8":
        raise CaptionerError(f"--photos has no effect with --precision {precision}: only int8 is calibrated.")
    if precision == "int8" and arguments.photos is None:
        raise CaptionerError("--precision int8 needs --photos DIR: the photos on which ranges are measured.")
    photos = [] if arguments.photos is None else _photos(arguments.photos)
    if precision == "int8":
        check_photos(photos)
    return photos


def write_checked(arguments: argparse.Namespace, photos: Sequence[Path], folder: Path) -> OnnxDescription:
    """Write the ONNX files that checked `arguments` ask for to the empty `folder`."""
    from captioner.checkpoint.average import load_average
    from captioner.checkpoint.onnx.graphs import import_onnx
    from captioner.checkpoint.onnx.write import write_onnx

    import_onnx()
    which = "latest" if arguments.latest else "best"
    loaded = load_average(Path(arguments.checkpoint), arguments.average, which=which)
    return write_onnx(loaded, folder, arguments.precision or "float32", photos)


def _describe(description: OnnxDescription) -> str:
    return f"{description.precision}, opset {description.opset}"


def _photos(folder: Path) -> list[Path]:
    from captioner.cli.caption import list_images

    if not folder.is_dir():
        raise CaptionerError(f"--photos {folder} is not a folder.")
    paths, _ = list_images([folder])
    step = max(1, len(paths) // MOST_PHOTOS)
    return paths[::step][:MOST_PHOTOS]


def _check_target(target: Path, *, replace: bool) -> None:
    """CheckpointError where `target` cannot be written, or must not be replaced."""
    if not target.absolute().parent.is_dir():
        raise CheckpointError(f"{target} cannot be created: the folder {target.absolute().parent} does not exist.")
    if not target.exists():
        return
    if not replace:
        raise CheckpointError(f"{target} exists already: give another folder, or --replace for an older export.")
    if not (target / DESCRIPTION_FILE).is_file() or (target / "model.safetensors").exists():
        raise CheckpointError(f"{target} is not a folder that --onnx wrote: not replaced.")
