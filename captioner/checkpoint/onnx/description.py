"""`onnx.json`: what the ONNX files of a captioner take and return. Read and verified without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from captioner.checkpoint.checkpoint_settings import MODEL_FILE
from captioner.checkpoint.index import find_checkpoint
from captioner.checkpoint.manifest import read_manifest, verify
from captioner.errors import CaptionerError, CheckpointError, ConfigError
from captioner.files import write_json
from captioner.schema import from_plain

DESCRIPTION_FILE = "onnx.json"
ENCODER_FILE, INIT_FILE, STEP_FILE = GRAPH_FILES = ("encoder.onnx", "init_state.onnx", "step.onnx")
CLASS_MAP_FILE, CLASSES_FILE = CLASS_FILES = ("class_map.onnx", "classes.onnx")  # where there is a classifier
PRECISIONS = ("float32", "float16", "int8")
LAYOUT_VERSION = 1
FEWEST_PHOTOS = 8  # for the ranges of 8 bits


@dataclass(frozen=True)
class OnnxDescription:
    """What a program needs to know about the graphs (`captioner.checkpoint.onnx.graphs` and `class_graphs`).

    layout: the version of this file. precision: one of PRECISIONS. opset: of the operators. needs_grid: whether
    init_state takes the grid besides the vector. attends: whether step returns attention weights. image, rows: how many
    tensors the two parts of the state have. feature_dim: D. grid_size: rows and columns of the regions. parameters: of
    the decoder. weights: the SHA-256 of the `model.safetensors` that was exported. beside: whether the graphs refer to
    that file, which must lie beside them. classes: whether the encoder's classifier is among the graphs. versions: of
    the packages that wrote the files, as in "onnx 1.23.2".
    """

    layout: int
    precision: str
    opset: int
    needs_grid: bool
    attends: bool
    image: int
    rows: int
    feature_dim: int
    grid_size: list[int]
    parameters: int
    weights: str
    beside: bool = False
    classes: bool = False
    versions: list[str] = field(default_factory=list)


def check_photos(photos: Sequence[Path]) -> None:
    """CaptionerError for fewer photos than the ranges of 8 bits can be measured on."""
    if len(photos) < FEWEST_PHOTOS:
        raise CaptionerError(
            f"8 bits need photos of the kind that will be captioned, to measure the ranges of activations: expected "
            f"{FEWEST_PHOTOS} or more (100 are better), and got {len(photos)}. Give --photos DIR."
        )


def save_description(description: OnnxDescription, folder: Path) -> None:
    """Write `DESCRIPTION_FILE`; the caller writes the manifest after it."""
    write_json(folder / DESCRIPTION_FILE, asdict(description))


def find_onnx(path: Path) -> Path | None:
    """The folder of a captioner's ONNX files: `path` itself, or the best checkpoint of a run folder or bundled model.

    None where there are none.
    """
    if (path / DESCRIPTION_FILE).is_file():
        return path
    if path.is_file():
        return None
    try:
        folder = find_checkpoint(path)
    except CheckpointError:
        return None
    return folder if (folder / DESCRIPTION_FILE).is_file() else None


def read_description(folder: Path) -> OnnxDescription:
    """The verified description of the graphs in `folder`; CheckpointError names the file that is missing or altered."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise CheckpointError(f"The ONNX files in {folder} are incomplete: SHA256SUMS is missing.")
    verify(folder, DESCRIPTION_FILE, manifest)
    try:
        raw = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        if raw.get("layout") != LAYOUT_VERSION:
            raise CheckpointError(
                f"{folder / DESCRIPTION_FILE} has the layout {raw.get('layout')}, and this captioner reads "
                f"{LAYOUT_VERSION}: export the model again."
            )
        description = from_plain(OnnxDescription, raw, "onnx")
    except (OSError, ValueError, AttributeError, RecursionError, ConfigError) as error:
        raise CheckpointError(f"{folder / DESCRIPTION_FILE} was altered or made by another version: {error}") from error
    needed = [*GRAPH_FILES, *(CLASS_FILES if description.classes else [])]
    for name in [*needed, MODEL_FILE] if description.beside else needed:
        verify(folder, name, manifest)
    return description
