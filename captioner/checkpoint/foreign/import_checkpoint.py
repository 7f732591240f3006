"""Imports a checkpoint of another project: reads it, converts it, and writes a run folder with one checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from captioner.checkpoint.checkpoint import CheckpointSettings, save_checkpoint
from captioner.checkpoint.foreign.conversion import ForeignFiles, ForeignModel
from captioner.checkpoint.foreign.projects import PROJECTS
from captioner.checkpoint.foreign.torch_file import read_torch_file
from captioner.config import EncoderConfig, TokenizerConfig
from captioner.config.encoder import NO_ENCODER_NAME
from captioner.errors import CheckpointError
from captioner.files import atomic_folder, write_json
from captioner.nn.decoders.build_decoder import build_decoder
from captioner.nn.encoders.build_encoder import build_encoder
from captioner.nn.encoders.encoder import Encoder
from captioner.nn.encoders.trunk import cut_head
from captioner.nn.model import CaptioningModel
from captioner.nn.skip_init import SkipInit

ABOUT_FILE = "import.json"
_NO_ENCODER = (
    "It was trained on features made elsewhere, and the file has no encoder: give such features with "
    "data.features=DIR, or import it with the encoder that made them (--encoder, --encoder-weights)."
)
_RESNETS = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "wide_resnet50_2",
    "wide_resnet101_2",
)


@dataclass(frozen=True)
class ImportOptions:
    """What a user may say about an import; None: found beside the checkpoint, or recognized.

    vocabulary: the file of the vocabulary. encoder: the name of the encoder; encoder_weights: the encoder's file, or,
    for a project whose checkpoints have no encoder, what `encoder.weights` takes.
    """

    vocabulary: Path | None = None
    encoder: str | None = None
    encoder_weights: str | None = None


@dataclass(frozen=True)
class Imported:
    """The result: what was imported in words, the encoder, the number of words, and notes for the user."""

    about: str
    encoder: str
    words: int
    notes: list[str]


def import_checkpoint(path: Path, project: str, out: Path, options: ImportOptions) -> Imported:
    """Write the checkpoint `path` of `project` as the run folder `out`.

    CheckpointError for a file that is damaged, unsafe, of another project or incomplete, and where `out` exists.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists already, and nothing is overwritten: name another folder with --out.")
    foreign = read_foreign_model(path, project, options)
    encoder_settings, encoder = _encoder_of(foreign, path, options)
    _check_feature_dim(encoder, foreign, path)
    decoder = build_decoder(foreign.model, len(foreign.vocabulary), encoder.feature_dim)
    decoder.load_state_dict(foreign.decoder)
    settings = CheckpointSettings(
        foreign.model, encoder_settings, encoder.transform, TokenizerConfig(name="ptb"), foreign.decode
    )
    notes = [*([_NO_ENCODER] if encoder_settings.name == NO_ENCODER_NAME else []), *foreign.notes]
    with atomic_folder(out) as folder:
        save_checkpoint(folder, 0, CaptioningModel(encoder, decoder), foreign.vocabulary, settings, {}, is_best=True)
        write_json(folder / ABOUT_FILE, {"project": project, "file": path.name, "sha256": _sha256(path)})
    return Imported(foreign.about, encoder_settings.name, len(foreign.vocabulary), notes)


def read_foreign_model(path: Path, project: str, options: ImportOptions) -> ForeignModel:
    """The checkpoint in our terms. CheckpointError names the right project where the content is of another one."""
    content = read_torch_file(path)
    chosen = PROJECTS[project]
    if not chosen.recognizes(content):
        others = [name for name, module in PROJECTS.loadable().items() if module.recognizes(content)]
        hint = f"It looks like one of {others[0]}: give --from {others[0]}." if others else _describe(content)
        raise CheckpointError(f"{path} is no checkpoint of {project}. {hint}")
    encoder = Path(options.encoder_weights) if options.encoder_weights is not None else None
    foreign: ForeignModel = chosen.convert(ForeignFiles(path, content, options.vocabulary, encoder))
    return foreign


def _describe(content: Any) -> str:
    """What a file contains that no project wrote."""
    if isinstance(content, dict):
        keys = ", ".join(map(str, list(content)[:4]))
        return f"It has a dictionary ({keys}{', …' if len(content) > 4 else ''}) that no known project writes."
    return f"It has a {type(content).__name__} that no known project writes."


def _encoder_of(foreign: ForeignModel, path: Path, options: ImportOptions) -> tuple[EncoderConfig, Encoder]:
    """The settings of the encoder, and the encoder with its weights."""
    about = foreign.encoder
    if about.weights is None and options.encoder is None and options.encoder_weights is None:
        settings = EncoderConfig(name=NO_ENCODER_NAME, weights=None, feature_dim=foreign.feature_dim)
        return settings, build_encoder(settings)
    settings = EncoderConfig(
        name=options.encoder or "resnet101", weights=None, image_size=about.image_size, grid_size=about.grid_size
    )
    if about.weights is None:  # the checkpoint has no encoder
        settings = replace(settings, weights=options.encoder_weights or "DEFAULT")
        _check_feature_dim(build_encoder(settings, load_weights=False), foreign, path)  # before a download
        return settings, build_encoder(settings)
    weights = _with_counts(about.weights)
    settings = replace(settings, name=options.encoder or _recognize(weights, path))
    encoder = build_encoder(settings, load_weights=False)
    encoder.transform = replace(encoder.transform, interpolation=about.interpolation, resize="squash")
    shapes = {name: tensor.shape for name, tensor in encoder.trunk.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise CheckpointError(f"{path}: its encoder is not {settings.name}: name another one with --encoder.")
    encoder.trunk.load_state_dict(weights)
    return settings, encoder


def _check_feature_dim(encoder: Encoder, foreign: ForeignModel, path: Path) -> None:
    """CheckpointError where the encoder gives another number of features than the decoder reads."""
    if encoder.feature_dim != foreign.feature_dim:
        raise CheckpointError(
            f"{path} has a decoder for {foreign.feature_dim} features, and {encoder.name} gives {encoder.feature_dim}: "
            "name the encoder whose features it was trained on with --encoder."
        )


def _with_counts(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, with the counts of batches, which files from before PyTorch 0.4.1 lack."""
    complete = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    for name in weights:
        if name.endswith("running_mean"):
            complete.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.zeros((), dtype=torch.int64))
    return complete


def _recognize(weights: dict[str, Tensor], path: Path) -> str:
    """The name of torchvision's ResNet whose weights have these names and shapes."""
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    for name in _RESNETS:
        with torch.device("meta"), SkipInit():
            trunk: nn.Module = cut_head(get_model(name, weights=None))
        if shapes == {key: tensor.shape for key, tensor in trunk.state_dict().items()}:
            return name
    raise CheckpointError(
        f"{path}: its encoder is none of torchvision's ResNets ({', '.join(_RESNETS)}): name an encoder of captioner "
        "that has its layers with --encoder."
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
