"""Write a captioner as a folder of ONNX files, from which `captioner.runtime` captions without torch."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.checkpoint.calibration import save_calibration
from captioner.checkpoint.checkpoint import CONFIG_FILE, MODEL_FILE, TOKENIZER_FILE, VOCABULARY_FILE, LoadedCheckpoint
from captioner.checkpoint.checkpoint_settings import checkpoint_config
from captioner.checkpoint.consensus_file import save_consensus
from captioner.checkpoint.export import without_path
from captioner.checkpoint.manifest import sha256, write_manifest
from captioner.checkpoint.onnx.class_graphs import export_classes
from captioner.checkpoint.onnx.description import (
    CLASS_FILES,
    CLASS_MAP_FILE,
    CLASSES_FILE,
    DESCRIPTION_FILE,
    ENCODER_FILE,
    GRAPH_FILES,
    INIT_FILE,
    LAYOUT_VERSION,
    STEP_FILE,
    OnnxDescription,
    save_description,
)
from captioner.checkpoint.onnx.graphs import OPSET, export_decoder, export_encoder, import_onnx
from captioner.checkpoint.onnx.quantize import quantize_encoder
from captioner.checkpoint.onnx.stored_weights import refer_to_checkpoint, store_in_8_bits, store_in_half
from captioner.checkpoint.phrase_file import PHRASES_FILE, save_phrases
from captioner.errors import CheckpointError
from captioner.files import write_atomically, write_json
from captioner.nn.encoders.class_head import find_class_head
from captioner.version import __version__

if TYPE_CHECKING:
    import onnx

_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime")


def write_onnx(
    loaded: LoadedCheckpoint,
    folder: Path,
    precision: str = "float32",
    photos: Sequence[Path] = (),
) -> OnnxDescription:
    """Write the graphs, settings, vocabulary and checksums to the empty `folder`.

    precision: one of `PRECISIONS`; "int8" calibrates the encoder on `photos`. The encoder's classifier is exported
    where it has one and its weights are on this machine. Raises ConfigError or CaptionerError, which says
    why, for a captioner that cannot be exported.
    """
    graphs, description = _graphs(loaded, precision, photos)
    for name, graph in graphs.items():
        write_atomically(folder / name, graph.SerializeToString(deterministic=True))
    loaded.vocabulary.save(folder / VOCABULARY_FILE)
    if loaded.tokenizer_model is not None:
        (folder / TOKENIZER_FILE).write_bytes(loaded.tokenizer_model)
    if loaded.vocabulary.phrases is not None:
        save_phrases(loaded.vocabulary.phrases, folder / PHRASES_FILE)
    if loaded.calibration is not None:
        save_calibration(loaded.calibration, folder)
    if loaded.consensus is not None:
        save_consensus(loaded.consensus, folder)
    write_json(folder / CONFIG_FILE, _config(loaded))
    save_description(description, folder)
    write_manifest(folder)
    return description


def add_onnx(loaded: LoadedCheckpoint) -> OnnxDescription:
    """Add the graphs, in float32, to the checkpoint's own folder; they refer to the weights in its `model.safetensors`.

    The classifier, whose weights are not in that file, is in half precision. What was there before is replaced.
    CheckpointError where a file cannot be one of a checkpoint.
    """
    folder = loaded.path
    if not (folder / MODEL_FILE).is_file():
        raise CheckpointError(f"{folder} has no {MODEL_FILE}, to which the graphs could refer.")
    graphs, description = _graphs(loaded, "float32")
    for name in CLASS_FILES:
        if name in graphs:
            store_in_half(graphs[name], exactly=False)
    for graph in graphs.values():
        refer_to_checkpoint(graph, folder / MODEL_FILE)
    for name, graph in graphs.items():
        write_atomically(folder / name, graph.SerializeToString(deterministic=True))
    for name in set(CLASS_FILES) - set(graphs):
        (folder / name).unlink(missing_ok=True)
    beside = replace(description, beside=True)
    save_description(beside, folder)
    write_manifest(folder)
    return beside


@contextmanager
def new_onnx_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, which takes its place on success and is removed on failure."""
    temporary, old = (target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp") for _ in range(2))
    temporary.mkdir()
    try:
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def onnx_files(folder: Path) -> list[Path]:
    """The files that `add_onnx` adds, as far as they are there."""
    return [folder / name for name in (*GRAPH_FILES, *CLASS_FILES, DESCRIPTION_FILE) if (folder / name).is_file()]


def _graphs(
    loaded: LoadedCheckpoint, precision: str, photos: Sequence[Path] = ()
) -> tuple[dict[str, onnx.ModelProto], OnnxDescription]:
    import_onnx()
    model = loaded.model.cpu()
    encoder, decoder = model.encoder, model.decoder
    rows, columns = encoder.grid_size
    parts = export_decoder(decoder, encoder.feature_dim, rows * columns)  # first: it says no at once
    head = find_class_head(loaded.settings.encoder, encoder)
    graph = export_encoder(encoder, with_shared=head is not None and not head.from_images)
    if precision == "int8":
        graph = quantize_encoder(graph, photos, loaded.settings.transform)
    graphs = {ENCODER_FILE: graph, INIT_FILE: parts.init_state, STEP_FILE: parts.step}
    if head is not None:
        of_classes = export_classes(encoder, head)
        graphs |= {CLASS_MAP_FILE: of_classes.map, CLASSES_FILE: of_classes.logits}
    weights = loaded.path / MODEL_FILE
    for each in graphs.values():
        if weights.is_file():
            store_in_8_bits(each, weights)
        store_in_half(each, exactly=precision == "float32")
    return graphs, OnnxDescription(
        layout=LAYOUT_VERSION,
        precision=precision,
        opset=OPSET,
        needs_grid=decoder.needs_grid,
        attends=parts.attends,
        image=parts.image,
        rows=parts.rows,
        feature_dim=encoder.feature_dim,
        grid_size=[rows, columns],
        parameters=sum(parameter.numel() for parameter in decoder.parameters()),
        weights=sha256(weights) if weights.is_file() else "",
        classes=head is not None,
        versions=_versions(),
    )


def _config(loaded: LoadedCheckpoint) -> dict[str, Any]:
    return checkpoint_config(replace(loaded.settings, encoder=without_path(loaded.settings.encoder)))


def _versions() -> list[str]:
    found = [f"captioner {__version__}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
