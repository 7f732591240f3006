"""A captioner's ONNX files in the form that the page without a server reads.

encoder.onnx, init_state.onnx, step.onnx     as `captioner export --onnx` writes them
model.safetensors                            where the graphs refer to the checkpoint's own weights
vocab.json                                   the tokens
model.json                                   everything else that is small
phrases.json                                 the phrase statistics, where the model has them
familiarity.bin                              (K, D) float32, little-endian: the subspace of known images, likewise
class_map.onnx, classes.onnx                 where --onnx writes the encoder's classifier
tags.json                                    likewise: which everyday words these classes are (`tag_table`)
classes.json                                 where the search weighs them: which tokens (`ClassPreferences.to_plain`)
consensus.bin                                where the model's search weighs the predicted consensus
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from captioner.checkpoint.calibration import CALIBRATION_FILE, Calibration, load_calibration
from captioner.checkpoint.checkpoint_settings import (
    MODEL_FILE,
    VOCABULARY_FILE,
    CheckpointSettings,
    load_phrase_vocabulary,
    load_tokenizer_model,
    parse_settings,
    read_config,
    read_verified_config,
)
from captioner.checkpoint.consensus_file import load_consensus
from captioner.checkpoint.manifest import verify
from captioner.checkpoint.onnx.description import CLASS_FILES, GRAPH_FILES, OnnxDescription, read_description
from captioner.config import DecodeConfig, TransformConfig
from captioner.data.images.pixels import TALL_FIRST
from captioner.decode.consensus import check_consensus, weighs_consensus
from captioner.decode.forbidden_tokens import check_phrases
from captioner.demo.web import consensus_files
from captioner.errors import ConfigError
from captioner.evaluation.tags import tag_table
from captioner.text.bpe import NAME as BPE
from captioner.text.phrases import LONGEST, PhraseStatistics
from captioner.text.tokenizers import Tokenizer, build_tokenizer, is_learned

SEARCHES = ("greedy", "beam")
SETTINGS = (
    *("name", "max_length", "min_length", "allow_unknown", "no_repeat_ngram", "no_unseen_phrase", "no_doubled_phrase"),
    *("no_bad_ending", "repetition_penalty", "beam_width", "length_penalty", "implausible_penalty", "class_weight"),
    "consensus_weight",
)
"""The settings of `decode` that the page knows."""


@dataclass(frozen=True)
class WrittenModel:
    """names: of the files that were written; notes: sentences that say what the page does not do with this model."""

    names: list[str]
    notes: list[str]


def write_model(source: Path, folder: Path, name: str) -> WrittenModel:
    """Write the files of the captioner in `source`, a folder of ONNX files, to `folder`.

    name: what the page calls it. CheckpointError where a file is missing or altered, ConfigError for what a model needs
    and the page does not have.
    """
    description = read_description(source)
    settings = parse_settings(source, read_verified_config(source, CheckpointSettings.task, [VOCABULARY_FILE]))
    manifest = read_config(source).manifest
    vocabulary = load_phrase_vocabulary(source, manifest)
    calibration = None
    if CALIBRATION_FILE in manifest.sums:
        verify(source, CALIBRATION_FILE, manifest)
        calibration = load_calibration(source)
    if settings.transform.stretch != "none":
        raise ConfigError(
            f"This model was trained with data.stretch={settings.transform.stretch}, which the page does not have: "
            "browsers give 8 bits a color only. Export it with --onnx, and caption with captioner.runtime."
        )
    decode, notes = page_decode(settings.decode, classes=description.classes)
    check_phrases(decode, vocabulary.phrases)
    consensus = load_consensus(source, manifest, len(vocabulary)) if weighs_consensus(decode) else None
    check_consensus(decode, consensus)
    names = [*GRAPH_FILES, VOCABULARY_FILE, *([MODEL_FILE] if description.beside else [])]
    if description.classes:
        names += CLASS_FILES
    for file in names:
        shutil.copyfile(source / file, folder / file)
    model = {
        "name": name,
        "about": _about(settings, description, len(vocabulary)),
        "notes": notes,
        "transform": page_transform(settings.transform),
        "decode": {setting: getattr(decode, setting) for setting in SETTINGS},
        "special": asdict(vocabulary.special),
        "separator": _separator(settings, source),
        "articles": None if vocabulary.articles is None else vocabulary.articles.to_plain(),
        "grid_size": description.grid_size,
        "weights": MODEL_FILE if description.beside else None,
        "calibration": None if calibration is None else _calibration(calibration, decode),
        "consensus": None if consensus is None else consensus_files.about(consensus),
    }
    written = {"model.json": _json(model)}
    if vocabulary.phrases is not None:
        written["phrases.json"] = _json(plain_phrases(vocabulary.phrases))
    if description.classes:
        written["tags.json"] = _json(tag_table())
    if decode.class_weight:
        written["classes.json"] = _json(vocabulary.class_preferences.to_plain())
    if calibration is not None:
        written["familiarity.bin"] = calibration.subspace.astype("<f4").tobytes()
    if consensus is not None:
        written[consensus_files.CONSENSUS_BINARY] = consensus_files.content(consensus)
    for file, content in written.items():
        (folder / file).write_bytes(content)
    return WrittenModel([*names, *written], notes)


def page_decode(decode: DecodeConfig, *, classes: bool) -> tuple[DecodeConfig, list[str]]:
    """The search with which the page starts, and what it leaves out of the model's own. classes: see `OnnxDescription`.

    Only beam search weighs classes.
    """
    notes = []
    weighs = decode.name == "beam" and decode.class_weight > 0
    if weighs and not classes:
        notes.append(
            f"This page does not have the encoder's classifier: it searches without decode.class_weight="
            f"{decode.class_weight:g}, so captions can differ from those of caption.py."
        )
    if decode.name not in SEARCHES:
        notes.append(f"This page does not have decode={decode.name}: it starts with beam search.")
        ranked = weighs_consensus(decode)
        decode = replace(decode, name="beam", consensus_weight=decode.consensus_weight if ranked else 0.0)
    return (decode if weighs and classes else replace(decode, class_weight=0.0)), notes


def page_transform(transform: TransformConfig) -> dict[str, Any]:
    """The settings of preprocessing, and the order of the passes in which this machine's Pillow resizes."""
    return {**asdict(transform), "tall_first": TALL_FIRST}


def plain_phrases(phrases: PhraseStatistics) -> dict[str, Any]:
    """Phrase statistics as JSON values: n-grams of one length follow each other, each with its count after it."""
    arrays = phrases.to_arrays()
    return {
        "end": phrases.end,
        "tokens": phrases.tokens,
        "counts": {str(n): arrays[f"counts_{n}"].ravel().tolist() for n in range(1, LONGEST + 1)},
        "doubled": sorted(phrases.doubled),
    }


def _calibration(calibration: Calibration, decode: DecodeConfig) -> dict[str, Any]:
    return {
        "unlike_below": calibration.record.unlike_below,
        "applies": calibration.applies_to(decode),
        "intercept": calibration.intercept,
        **{
            name: np.asarray(getattr(calibration, name), np.float64).tolist() for name in ("weights", "means", "scales")
        },
    }


def _separator(settings: CheckpointSettings, source: Path) -> str | None:
    """What the page puts between tokens; None for units of byte-pair encoding."""
    if settings.tokenizer.name == BPE:
        return None
    learned = load_tokenizer_model(source) if is_learned(settings.tokenizer) else None
    tokenizer: Tokenizer = build_tokenizer(replace(settings.tokenizer, backend="python"), learned)
    if tokenizer.detokenize is not None:
        raise ConfigError(
            f"tokenizer={settings.tokenizer.name} joins tokens by a function in Python, which the page does not have. "
            "Export the model with --onnx, and caption with captioner.runtime."
        )
    return tokenizer.separator


def _about(settings: CheckpointSettings, description: OnnxDescription, tokens: int) -> str:
    parameters = f"{description.parameters / 1e6:.1f} M parameters"
    return f"{settings.model.name}, {parameters} · {settings.encoder.name}, {description.precision} · {tokens:,} tokens"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
