"""A checkpoint: a folder that owns all it needs, whole or not there, and never executed.

    model.safetensors   every weight and buffer, encoder included
    config.json         format_version; the task; model, encoder, transform, tokenizer and decode settings; checksums
    vocab.json          the vocabulary
    trainer.pt          optimizer, random states, position (only to carry on; read with weights_only=True)

A run keeps them under `checkpoints/`, where `index.json` names the latest and the best. A checkpoint
is written beside, flushed to disk and renamed; then the index is replaced; and only then is removed what
it names no more. So `latest` and `best` are whole whenever a run is killed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from captioner.config import (
    TASKS,
    DecodeConfig,
    EncoderConfig,
    LanguageNetworkConfig,
    ModelConfig,
    TextConfig,
    TokenizerConfig,
    TransformConfig,
)
from captioner.errors import CheckpointError, ConfigError, near_misses
from captioner.files import flush_folder, write_json
from captioner.nn.build import build_decoder, model_settings
from captioner.nn.encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.schema import from_plain, to_plain
from captioner.text.vocabulary import Vocabulary
from captioner.version import __version__

FORMAT_VERSION = 1
MODEL_FILE, CONFIG_FILE, VOCABULARY_FILE, TRAINER_FILE = "model.safetensors", "config.json", "vocab.json", "trainer.pt"
INDEX_FILE = "index.json"
_STEP_FOLDER = re.compile(r"step-\d+(\.\d+)?")


@dataclass(frozen=True)
class CheckpointSettings:
    """What a model must know to caption, besides its weights and its words."""

    task: ClassVar[str] = "captioning"
    model: ModelConfig
    encoder: EncoderConfig
    transform: TransformConfig
    tokenizer: TokenizerConfig
    decode: DecodeConfig


@dataclass(frozen=True)
class LanguageCheckpointSettings:
    """The same for a language model."""

    task: ClassVar[str] = "language_model"
    model: LanguageNetworkConfig
    data: TextConfig


_CONFIG_KEYS = ("format_version", "captioner_version", "task", "sha256")
_SETTINGS = {kind.task: kind for kind in (CheckpointSettings, LanguageCheckpointSettings)}
_COMMANDS = {"captioning": "python caption.py", "language_model": "python -m captioner sample"}


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
    model: nn.Module,
    vocabulary: Vocabulary,
    settings: CheckpointSettings | LanguageCheckpointSettings,
    trainer_state: dict[str, Any],
    *,
    is_best: bool,
) -> Path:
    """Write `checkpoints/step-…`, make it the latest (and the best), and remove what is neither any more."""
    folder = run_folder / "checkpoints"
    for stale in folder.glob(".*.tmp"):  # left by a kill
        shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
    target = folder / _free_name(folder, step)
    temporary = folder / f".{target.name}.tmp"
    temporary.mkdir(parents=True)
    safetensors.torch.save_model(model, str(temporary / MODEL_FILE))
    vocabulary.save(temporary / VOCABULARY_FILE)
    torch.save(trainer_state, temporary / TRAINER_FILE)
    write_json(
        temporary / CONFIG_FILE,
        {
            "format_version": FORMAT_VERSION,
            "captioner_version": __version__,
            "task": settings.task,
            **{field.name: to_plain(getattr(settings, field.name)) for field in fields(settings)},
            "sha256": {name: _sha256(temporary / name) for name in (MODEL_FILE, VOCABULARY_FILE, TRAINER_FILE)},
        },
    )
    flush_folder(temporary)
    temporary.replace(target)
    flush_folder(folder)
    index = read_index(run_folder)
    index = {"latest": target.name, "best": target.name if is_best else index.get("best", target.name)}
    write_json(folder / INDEX_FILE, index)
    for old in folder.glob("step-*"):
        if old.name not in index.values():
            shutil.rmtree(old)
    return target


def _free_name(folder: Path, step: int) -> str:
    """`step-00000120`; on resume a run that was stopped at an epoch's end saves that step again: `step-00000120.2`."""
    name, number = f"step-{step:08d}", 1
    while (folder / name).exists():
        number += 1
        name = f"step-{step:08d}.{number}"
    return name


def read_index(run_folder: Path) -> dict[str, str]:
    """Which checkpoint of a run is the latest and which the best; empty where there is none yet."""
    path = run_folder / "checkpoints" / INDEX_FILE
    if not path.exists():
        return {}
    index = _read_json(path)
    named = {key: str(index.get(key)) for key in ("latest", "best")} if isinstance(index, dict) else {}
    if not named or not all(_STEP_FOLDER.fullmatch(name) for name in named.values()):
        raise CheckpointError(
            f"{path} was altered: it should name the latest and the best of the folders step-… beside it. "
            "Name one of them instead of the run."
        )
    return named


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
        raise CheckpointError(f"{path} holds no checkpoint: it has neither {CONFIG_FILE} nor checkpoints/{INDEX_FILE}.")
    return path / "checkpoints" / index[which]


def load_checkpoint(path: Path, device: torch.device | str = "cpu", which: str = "best") -> LoadedCheckpoint:
    """Everything needed to caption, checked file by file; CheckpointError says which one is wrong and why."""
    folder = find_checkpoint(path, which)
    raw = read_verified_config(folder, CheckpointSettings.task)
    settings = _parse_settings(folder, raw)
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    model = _build_bare_model(folder, settings, len(vocabulary))
    fill_model(model, folder)
    return LoadedCheckpoint(folder, model.to(device).eval(), vocabulary, settings)


def read_verified_config(folder: Path, task: str) -> dict[str, Any]:
    """`config.json` of a checkpoint whose weights and words are those that were written, by a run of `task`."""
    raw = _read_config(folder)
    written_by = raw.get("task", "captioning")
    if written_by not in TASKS:
        raise altered(folder, f"task={written_by!r} does not exist.")
    if written_by != task:
        raise CheckpointError(
            f"{folder} was made by task={written_by}, and this needs one of task={task}: "
            f"use it with {_COMMANDS[written_by]}."
        )
    for name in (MODEL_FILE, VOCABULARY_FILE):
        _verify(folder, name, raw)
    return raw


def read_task(folder: Path) -> str:
    """Which task's run made a checkpoint: captioning or language_model."""
    return str(_read_config(folder).get("task", "captioning"))


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fill `model`, in place, from the checkpoint's weights; CheckpointError where they were altered or do not fit."""
    _verify(folder, MODEL_FILE, _read_config(folder))
    fill_model(model, folder)


def load_trainer_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `trainer_state`."""
    _verify(folder, TRAINER_FILE, _read_config(folder))
    path = folder / TRAINER_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes may raise anything; torch's own text advises to trust them
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and plain values, which is not loaded: "
            "the run cannot be resumed."
        ) from error
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a training state: the run cannot be resumed."
        )
    return state


def _build_bare_model(folder: Path, settings: CheckpointSettings, vocabulary_size: int) -> CaptioningModel:
    """The model that the settings describe, its weights still to come.

    The decoder is first built on the meta device, that is without memory: settings that ask for more
    numbers than the file of weights holds are refused before anything of that size is allocated.
    """
    try:
        # The stored transform counts: what a network's weights expect may differ in another torchvision.
        described = replace(settings.encoder, image_size=settings.transform.size)
        encoder = build_encoder(described, load_weights=False)
        with torch.device("meta"):
            bare = build_decoder(settings.model, vocabulary_size, encoder.feature_dim)
    except ConfigError as error:
        raise altered(folder, error) from error
    refuse_larger_than_file(bare, folder)
    encoder.transform = settings.transform
    return CaptioningModel(encoder, build_decoder(settings.model, vocabulary_size, encoder.feature_dim))


def refuse_larger_than_file(bare: nn.Module, folder: Path) -> None:
    """CheckpointError where a model, built on the meta device, has more numbers than the checkpoint's file holds."""
    stored = (folder / MODEL_FILE).stat().st_size
    needed = sum(parameter.numel() * parameter.element_size() for parameter in bare.parameters())
    if needed > stored:
        raise CheckpointError(
            f"{folder / MODEL_FILE} does not fit the model that {CONFIG_FILE} and {VOCABULARY_FILE} describe: "
            f"its decoder alone has {needed:,} bytes, and the file {stored:,}."
        )


def fill_model(model: nn.Module, folder: Path) -> None:
    """Fill `model` from the checkpoint's weights; CheckpointError where they do not fit."""
    try:
        safetensors.torch.load_model(model, str(folder / MODEL_FILE))
    except (RuntimeError, SafetensorError, OSError) as error:
        # torch lists every weight that does not fit below a title: the first says enough
        lines = str(error).splitlines()
        first = lines[1].strip() if len(lines) > 1 else str(error)
        raise CheckpointError(
            f"{folder / MODEL_FILE} does not fit the model that {CONFIG_FILE} and {VOCABULARY_FILE} describe: "
            f"{first:.300}"
        ) from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {CONFIG_FILE} is missing.")
    raw = _read_json(path)
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has format version {version}, and captioner {__version__} reads version {FORMAT_VERSION}: "
            "install the captioner that wrote it, or a newer one."
        )
    settings = _SETTINGS.get(str(raw.get("task")), CheckpointSettings)
    known = [*_CONFIG_KEYS, *(field.name for field in fields(settings))]
    for key in raw:
        if key not in known:
            raise altered(folder, f"{key} does not exist.{near_misses(key, known)}")
    return dict(raw)


def _parse_settings(folder: Path, raw: dict[str, Any]) -> CheckpointSettings:
    try:
        return CheckpointSettings(
            model=model_settings(raw.get("model")),
            encoder=from_plain(EncoderConfig, raw.get("encoder"), "encoder"),
            transform=from_plain(TransformConfig, raw.get("transform"), "transform"),
            tokenizer=from_plain(TokenizerConfig, raw.get("tokenizer"), "tokenizer"),
            decode=from_plain(DecodeConfig, raw.get("decode"), "decode"),
        )
    except ConfigError as error:
        raise altered(folder, error) from error


def altered(folder: Path, problem: object) -> CheckpointError:
    """What is raised for settings that no run of this version wrote."""
    return CheckpointError(f"{folder / CONFIG_FILE} was altered or made by another version: {problem}")


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
