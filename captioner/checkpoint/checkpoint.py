"""A checkpoint: a folder that owns all it needs, whole or not there, and never executed.

    model.safetensors   every weight and buffer, encoder included
    config.json         format_version; the task; model, encoder, transform, tokenizer and decode settings
    vocab.json          the vocabulary
    trainer.pt          optimizer, random states, position (only to carry on; read with weights_only=True)
    SHA256SUMS          what each of them was when it was written

Which checkpoints a run keeps is told in `run_checkpoints`, and how older ones are read in `migrations`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from captioner.checkpoint.index import enter, find_checkpoint, new_folder
from captioner.checkpoint.manifest import MANIFEST_FILE, Manifest, read_manifest, verify, write_manifest
from captioner.checkpoint.migrations import FORMAT_VERSION, format_version, migrate, migrate_trainer_state
from captioner.checkpoint.omitted_weights import OmittedWeights, restore_omitted_weights
from captioner.checkpoint.weights import fill, read_weights
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
from captioner.nn.decoders.registry import build_decoder
from captioner.nn.encoders.encoder import build_encoder
from captioner.nn.model import CaptioningModel
from captioner.schema import from_plain, model_settings, to_plain
from captioner.text.vocabulary import Vocabulary
from captioner.version import __version__

MODEL_FILE, CONFIG_FILE, VOCABULARY_FILE, TRAINER_FILE = "model.safetensors", "config.json", "vocab.json", "trainer.pt"


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


_CONFIG_KEYS = ("format_version", "captioner_version", "task", "omitted_weights")
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
    keep_last: int = 1,
) -> Path:
    """Write `checkpoints/step-…`, make it the latest (and the best), and keep so many of the last, besides the best."""
    target, temporary = new_folder(run_folder, step)
    try:
        with _library_errors_as_os_errors(target):
            safetensors.torch.save_model(model, str(temporary / MODEL_FILE))
            torch.save(trainer_state, temporary / TRAINER_FILE)
        vocabulary.save(temporary / VOCABULARY_FILE)
        write_json(temporary / CONFIG_FILE, checkpoint_config(settings))
        write_manifest(temporary)
        flush_folder(temporary)
        temporary.replace(target)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs its space, and there is nothing to keep
        raise
    flush_folder(target.parent)
    enter(run_folder, target.name, is_best=is_best, keep_last=keep_last)
    return target


def checkpoint_config(settings: CheckpointSettings | LanguageCheckpointSettings) -> dict[str, Any]:
    """The content of `config.json`."""
    return {
        "format_version": FORMAT_VERSION,
        "captioner_version": __version__,
        "task": settings.task,
        **{field.name: to_plain(getattr(settings, field.name)) for field in fields(settings)},
    }


@contextmanager
def _library_errors_as_os_errors(target: Path) -> Iterator[None]:
    """safetensors and torch have exceptions of their own for a disk that is full or gone."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        text = str(error)
        if not any(sign in text for sign in ("I/O error", "PytorchStreamWriter", "Parent directory")):
            raise
        code = int(match[1]) if (match := re.search(r"os error (\d+)", text)) else errno.EIO
        full = shutil.disk_usage(target.parent).free < 1 << 20 if target.parent.is_dir() else False
        code = errno.ENOSPC if full else code
        raise OSError(code, os.strerror(code), str(target)) from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu", which: str = "best") -> LoadedCheckpoint:
    """Everything needed to caption, checked file by file; CheckpointError says which one is wrong and why."""
    folder = find_checkpoint(path, which)
    raw = read_verified_config(folder, CheckpointSettings.task)
    settings = _parse_settings(folder, raw)
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    model = _build_bare_model(folder, settings, len(vocabulary))
    fill_model(model, folder, _omitted_weights(folder, raw, model, settings))
    return LoadedCheckpoint(folder, model.to(device).eval(), vocabulary, settings)


def read_verified_config(folder: Path, task: str) -> dict[str, Any]:
    """`config.json` of a checkpoint whose weights and words are those that were written, by a run of `task`."""
    stored = _read_config(folder)
    config = stored.config
    if config["task"] != task:
        raise CheckpointError(
            f"{folder} was made by task={config['task']}, and this needs one of task={task}: "
            f"use it with {_COMMANDS[config['task']]}."
        )
    for name in (MODEL_FILE, VOCABULARY_FILE):
        verify(folder, name, stored.manifest)
    return config


def read_task(folder: Path) -> str:
    """Which task's run made a checkpoint: captioning or language_model."""
    return str(_read_config(folder).config["task"])


def load_weights(model: nn.Module, folder: Path) -> None:
    """Fill `model`, in place, from the checkpoint's weights; CheckpointError where they were altered or do not fit."""
    verify(folder, MODEL_FILE, _read_config(folder).manifest)
    fill_model(model, folder)


def load_vocabulary(folder: Path) -> Vocabulary:
    """The checkpoint's words; CheckpointError where they were altered."""
    verify(folder, VOCABULARY_FILE, _read_config(folder).manifest)
    return Vocabulary.load(folder / VOCABULARY_FILE)


def load_trainer_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `trainer_state`."""
    stored = _read_config(folder)
    verify(folder, TRAINER_FILE, stored.manifest)
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
    return migrate_trainer_state(state, stored.version)


def _build_bare_model(folder: Path, settings: CheckpointSettings, vocabulary_size: int) -> CaptioningModel:
    """The model that the settings describe, on the meta device: it takes no memory, and no time to draw weights."""
    try:
        # The stored transform counts: what a network's weights expect may differ in another torchvision.
        described = replace(settings.encoder, image_size=settings.transform.size)
        try:
            with torch.device("meta"):
                encoder = build_encoder(described, load_weights=False)
        except NotImplementedError:  # RegNet computes its widths with tensors, which must be there
            encoder = build_encoder(described, load_weights=False)
        with torch.device("meta"):
            decoder = build_decoder(settings.model, vocabulary_size, encoder.feature_dim)
    except ConfigError as error:
        raise altered(folder, error) from error
    encoder.transform = settings.transform
    return CaptioningModel(encoder, decoder)


def _omitted_weights(
    folder: Path, raw: dict[str, Any], model: CaptioningModel, settings: CheckpointSettings
) -> dict[str, Tensor]:
    """The encoder's weights that an export does not hold; of a run's own checkpoint: none."""
    if "omitted_weights" not in raw:
        return {}
    try:
        return restore_omitted_weights(
            from_plain(OmittedWeights, raw["omitted_weights"], "omitted_weights"),
            model.encoder,
            settings.encoder,
            folder,
        )
    except ConfigError as error:
        raise altered(folder, error) from error


def fill_model(model: nn.Module, folder: Path, others: Mapping[str, Tensor] | None = None) -> None:
    """Fill `model` from the checkpoint's weights, and `others` that it leaves out.

    CheckpointError where they do not fit. A model on the meta device gets no more memory than its weights take in
    the file, whatever the settings that it was built from ask for.
    """
    try:
        fill(model, read_weights(folder / MODEL_FILE) | dict(others or {}))
    except (RuntimeError, SafetensorError, OSError) as error:
        # torch lists every weight that does not fit below a title: the first says enough
        lines = str(error).splitlines()
        first = lines[1].strip() if len(lines) > 1 else str(error)
        raise CheckpointError(
            f"{folder / MODEL_FILE} does not fit the model that {CONFIG_FILE} and {VOCABULARY_FILE} describe: "
            f"{first:.300}"
        ) from error


class _StoredConfig(NamedTuple):
    """`config.json` in the current format, the checksums of all files, and the format version in which it is stored."""

    config: dict[str, Any]
    manifest: Manifest
    version: int


def _read_config(folder: Path) -> _StoredConfig:
    """Read, verify and migrate `config.json`; CheckpointError where it is missing, altered or unreadable."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {CONFIG_FILE} is missing.")
    manifest = read_manifest(folder)
    if manifest is not None:
        verify(folder, CONFIG_FILE, manifest)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from error
    version = format_version(raw, folder)
    if version == 1:  # its checksums are in config.json itself
        sums = raw.get("sha256")
        manifest = Manifest(CONFIG_FILE, sums if isinstance(sums, dict) else {})
    elif manifest is None:
        raise CheckpointError(f"The checkpoint {folder} is incomplete: {MANIFEST_FILE} is missing.")
    config = migrate(raw)
    task = config.get("task")
    if task not in TASKS:
        raise altered(folder, f"task={task!r} does not exist.")
    known = [*_CONFIG_KEYS, *(field.name for field in fields(_SETTINGS[task]))]
    for key in config:
        if key not in known:
            raise altered(folder, f"{key} does not exist.{near_misses(key, known)}")
    return _StoredConfig(config, manifest, version)


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
