"""A checkpoint: a folder that owns all it needs, whole or not there, and never executed.

    model.safetensors   every weight and buffer, encoder included
    config.json         format_version; model, encoder, transform, tokenizer and decode settings; checksums
    vocab.json          the vocabulary
    trainer.pt          optimizer, random states, position (only to carry on; read with weights_only=True)

A run keeps them under `checkpoints/`, where `index.json` names the latest and the best. A checkpoint
is written beside and renamed, and the index is replaced after that, so `latest` is always whole.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from captioner import __version__
from captioner.config import DecodeConfig, EncoderConfig, ModelConfig, TokenizerConfig, TransformConfig
from captioner.errors import CheckpointError, ConfigError, near_misses
from captioner.files import flush_folder, write_json
from captioner.nn.build import build_model, model_settings
from captioner.nn.model import CaptioningModel
from captioner.schema import from_plain, to_plain
from captioner.text.vocabulary import Vocabulary

FORMAT_VERSION = 1
MODEL_FILE, CONFIG_FILE, VOCABULARY_FILE, TRAINER_FILE = "model.safetensors", "config.json", "vocab.json", "trainer.pt"


@dataclass(frozen=True)
class CheckpointSettings:
    """What a model must know to caption, besides its weights and its words."""

    model: ModelConfig
    encoder: EncoderConfig
    transform: TransformConfig
    tokenizer: TokenizerConfig
    decode: DecodeConfig


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A model in eval mode on its device, with its vocabulary and settings."""

    path: Path
    model: CaptioningModel
    vocabulary: Vocabulary
    settings: CheckpointSettings


def save_checkpoint(
    run_folder: Path,
    step: int,
    model: CaptioningModel,
    vocabulary: Vocabulary,
    settings: CheckpointSettings,
    trainer_state: dict[str, Any],
    *,
    is_best: bool,
) -> Path:
    """Write `checkpoints/step-…`, make it the latest (and the best), and remove what is neither any more."""
    folder = run_folder / "checkpoints"
    target = folder / f"step-{step:08d}"
    temporary = folder / f".{target.name}.tmp"
    for stale in folder.glob(".*.tmp"):  # left by a kill
        shutil.rmtree(stale)
    temporary.mkdir(parents=True)
    safetensors.torch.save_model(model, str(temporary / MODEL_FILE))
    vocabulary.save(temporary / VOCABULARY_FILE)
    torch.save(trainer_state, temporary / TRAINER_FILE)
    write_json(
        temporary / CONFIG_FILE,
        {
            "format_version": FORMAT_VERSION,
            "captioner_version": __version__,
            **{name: to_plain(getattr(settings, name)) for name in CheckpointSettings.__dataclass_fields__},
            "sha256": {name: _sha256(temporary / name) for name in (MODEL_FILE, VOCABULARY_FILE, TRAINER_FILE)},
        },
    )
    flush_folder(temporary)
    index = read_index(run_folder)
    if target.exists():  # the same step again, for example Ctrl-C right after an epoch's end
        shutil.rmtree(target)
    temporary.replace(target)
    flush_folder(folder)
    index = {"latest": target.name, "best": target.name if is_best else index.get("best", target.name)}
    write_json(folder / "index.json", index)
    for old in folder.glob("step-*"):
        if old.name not in index.values():
            shutil.rmtree(old)
    return target


def read_index(run_folder: Path) -> dict[str, str]:
    """Which checkpoint of a run is the latest and which the best; empty where there is none yet."""
    path = run_folder / "checkpoints" / "index.json"
    if not path.exists():
        return {}
    try:
        index = json.loads(path.read_text())
        return {key: str(index[key]) for key in ("latest", "best")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): name a folder checkpoints/step-… itself.") from error


def find_checkpoint(path: Path, which: str = "best") -> Path:
    """The checkpoint folder that `path` means: itself, or a run folder's "best" or "latest"."""
    if (path / CONFIG_FILE).is_file() or (path / MODEL_FILE).is_file():
        return path
    if not path.is_dir():
        siblings = [str(p) for p in path.parent.glob("*")] if path.parent.is_dir() else []
        raise CheckpointError(
            f"checkpoint={path} is not a folder: expected a run folder such as runs/… or a folder in its checkpoints/."
            f"{near_misses(str(path), siblings)}"
        )
    index = read_index(path)
    if not index:
        raise CheckpointError(f"{path} holds no checkpoint: it has neither {CONFIG_FILE} nor checkpoints/index.json.")
    return path / "checkpoints" / Path(index[which]).name


def load_checkpoint(path: Path, device: torch.device | str = "cpu", which: str = "best") -> LoadedCheckpoint:
    """Everything needed to caption, checked file by file; CheckpointError says which one is wrong and why."""
    folder = find_checkpoint(path, which)
    raw = _read_config(folder)
    for name in (MODEL_FILE, VOCABULARY_FILE):
        _verify(folder, name, raw)
    settings = _parse_settings(folder, raw)
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    model = build_model(settings.model, settings.encoder, len(vocabulary), load_weights=False)
    load_weights(model, folder)
    model.encoder.transform = settings.transform
    return LoadedCheckpoint(folder, model.to(device).eval(), vocabulary, settings)


def load_weights(model: CaptioningModel, folder: Path) -> None:
    """Fill `model` from the checkpoint's weights; CheckpointError where they are of another shape."""
    try:
        safetensors.torch.load_model(model, str(folder / MODEL_FILE))
    except (RuntimeError, SafetensorError, OSError) as error:
        first = next((line.strip() for line in str(error).splitlines() if "size mismatch" in line), str(error))
        raise CheckpointError(
            f"{folder / MODEL_FILE} does not fit the model that {CONFIG_FILE} and {VOCABULARY_FILE} describe: {first}"
        ) from error


def load_trainer_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `trainer_state`."""
    _verify(folder, TRAINER_FILE, _read_config(folder))
    try:
        state = torch.load(folder / TRAINER_FILE, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(
            f"{folder / TRAINER_FILE} cannot be read ({error}): the run cannot be resumed."
        ) from error
    return dict(state)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {CONFIG_FILE} is missing.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, and captioner {__version__} reads version {FORMAT_VERSION}: "
            "install the captioner that wrote it, or a newer one."
        )
    return dict(raw)


def _parse_settings(folder: Path, raw: dict[str, Any]) -> CheckpointSettings:
    where = str(folder / CONFIG_FILE)
    try:
        return CheckpointSettings(
            model=model_settings(raw.get("model")),
            encoder=from_plain(EncoderConfig, raw.get("encoder"), "encoder"),
            transform=from_plain(TransformConfig, raw.get("transform"), "transform"),
            tokenizer=from_plain(TokenizerConfig, raw.get("tokenizer"), "tokenizer"),
            decode=from_plain(DecodeConfig, raw.get("decode"), "decode"),
        )
    except ConfigError as error:
        raise CheckpointError(f"{where} was altered or made by another version: {error}") from error


def _verify(folder: Path, name: str, raw: dict[str, Any]) -> None:
    """Is the file there, and is it the one that was written?"""
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {name} is missing.")
    checksums = raw.get("sha256")
    expected = checksums.get(name) if isinstance(checksums, dict) else None
    if _sha256(path) != expected:
        raise CheckpointError(f"{path} was altered or damaged: its checksum is not the one in {CONFIG_FILE}.")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
