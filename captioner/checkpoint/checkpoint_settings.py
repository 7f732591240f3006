"""A checkpoint's settings and vocabulary, read and verified without torch: what `config.json` and `vocab.json` hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from captioner.checkpoint.manifest import MANIFEST_FILE, Manifest, read_manifest, verify
from captioner.checkpoint.migrations import FORMAT_VERSION, format_version, migrate
from captioner.checkpoint.phrase_file import PHRASES_FILE, load_phrases
from captioner.config import (
    DECODERS,
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
from captioner.schema import from_plain, model_settings, to_plain
from captioner.text.vocabulary import Vocabulary
from captioner.version import __version__

MODEL_FILE, CONFIG_FILE, VOCABULARY_FILE, TRAINER_FILE = "model.safetensors", "config.json", "vocab.json", "trainer.pt"
TOKENIZER_FILE = "tokenizer.model"


@dataclass(frozen=True)
class CheckpointSettings:
    """The settings of a captioning model that are stored beside its weights and vocabulary."""

    task: ClassVar[str] = "captioning"
    model: ModelConfig
    encoder: EncoderConfig
    transform: TransformConfig
    tokenizer: TokenizerConfig
    decode: DecodeConfig


@dataclass(frozen=True)
class LanguageCheckpointSettings:
    """The settings of a language model that are stored beside its weights and vocabulary."""

    task: ClassVar[str] = "language_model"
    model: LanguageNetworkConfig
    data: TextConfig


_CONFIG_KEYS = ("format_version", "captioner_version", "task", "omitted_weights")
_SETTINGS = {kind.task: kind for kind in (CheckpointSettings, LanguageCheckpointSettings)}
_COMMANDS = {"captioning": "python caption.py", "language_model": "python -m captioner sample"}


def checkpoint_config(settings: CheckpointSettings | LanguageCheckpointSettings) -> dict[str, Any]:
    """The content of `config.json`."""
    return {
        "format_version": FORMAT_VERSION,
        "captioner_version": __version__,
        "task": settings.task,
        **{field.name: to_plain(getattr(settings, field.name)) for field in fields(settings)},
    }


def load_settings(folder: Path) -> CheckpointSettings:
    """The settings of a captioning model's checkpoint folder; CheckpointError as `load_checkpoint`."""
    return parse_settings(folder, read_verified_config(folder, CheckpointSettings.task))


def read_verified_config(
    folder: Path, task: str, files: Sequence[str] = (MODEL_FILE, VOCABULARY_FILE)
) -> dict[str, Any]:
    """The migrated `config.json` of a checkpoint of `task`, after verifying `files`."""
    stored = read_config(folder)
    config = stored.config
    if config["task"] != task:
        raise CheckpointError(
            f"{folder} was made by task={config['task']}, and this command needs a checkpoint of task={task}: "
            f"use it with {_COMMANDS[config['task']]}."
        )
    for name in files:
        verify(folder, name, stored.manifest)
    return config


def read_task(folder: Path) -> str:
    """The task of the run that wrote a checkpoint: captioning or language_model."""
    return str(read_config(folder).config["task"])


def load_vocabulary(folder: Path) -> Vocabulary:
    """The checkpoint's vocabulary; CheckpointError if it was altered."""
    verify(folder, VOCABULARY_FILE, read_config(folder).manifest)
    return Vocabulary.load(folder / VOCABULARY_FILE)


def load_phrase_vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    """The vocabulary, already verified, with the phrase statistics of a checkpoint that has them."""
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    if PHRASES_FILE in manifest.sums:
        verify(folder, PHRASES_FILE, manifest)
        vocabulary.phrases = load_phrases(folder / PHRASES_FILE)
    return vocabulary


def load_tokenizer_model(folder: Path) -> bytes:
    """What the checkpoint's tokenizer has learned; CheckpointError if it is missing or was altered."""
    verify(folder, TOKENIZER_FILE, read_config(folder).manifest)
    return (folder / TOKENIZER_FILE).read_bytes()


class StoredConfig(NamedTuple):
    """`config.json` in the current format, the checksums of all files, and the format version in which it is stored."""

    config: dict[str, Any]
    manifest: Manifest
    version: int


def read_config(folder: Path) -> StoredConfig:
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
    return StoredConfig(config, manifest, version)


def parse_settings(folder: Path, raw: dict[str, Any]) -> CheckpointSettings:
    """The settings in a migrated `config.json`; CheckpointError for any that do not exist or do not fit."""
    try:
        return CheckpointSettings(
            model=model_settings(raw.get("model")),
            encoder=from_plain(EncoderConfig, raw.get("encoder"), "encoder"),
            transform=from_plain(TransformConfig, raw.get("transform"), "transform"),
            tokenizer=from_plain(TokenizerConfig, raw.get("tokenizer"), "tokenizer"),
            decode=from_plain(DecodeConfig, raw.get("decode"), "decode"),
        )
    except ConfigError as error:
        name = raw["model"].get("name") if isinstance(raw.get("model"), dict) else None
        if isinstance(name, str) and name not in DECODERS:
            raise CheckpointError(
                f"{folder / CONFIG_FILE} needs model.name={name!r}, which is not installed."
                f"{near_misses(name, DECODERS)} Install the package that provides it. "
                f"Installed: {', '.join(sorted(DECODERS))}."
            ) from error
        raise altered(folder, error) from error


def altered(folder: Path, problem: object) -> CheckpointError:
    """The error for settings that no captioner of this version wrote."""
    return CheckpointError(f"{folder / CONFIG_FILE} was altered or made by another version: {problem}")
