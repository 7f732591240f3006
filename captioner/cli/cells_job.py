"""The work of `captioner cells` once its flags are checked; the only part of the command that imports torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from captioner.analysis.activations import Recording, gate_saturation, join_recordings, record_captions, record_text
from captioner.analysis.properties import TEXT_PROPERTIES, caption_property, frequent_objects
from captioner.analysis.unit_search import best_units
from captioner.checkpoint.checkpoint import load_checkpoint, read_task
from captioner.checkpoint.language_model_checkpoint import load_language_model
from captioner.checkpoint.pretrained import FOLDER
from captioner.cli.data_source import chosen_data
from captioner.cli.tables import markdown_table
from captioner.config import CacheConfig, DecodeConfig
from captioner.data.batches import sequential_batches
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.sources import open_features
from captioner.data.text_corpus import load_text, read_text
from captioner.decode import search
from captioner.distributed.device import choose_device
from captioner.errors import ConfigError, DataError, choose
from captioner.files import write_atomically
from captioner.nn.cells import cells_of
from captioner.plots.unit_plots import (
    UNIT_SCALE,
    layout_lines,
    percentile_scale,
    saturation_plot,
    write_html,
    write_png,
)
from captioner.text.text_tokens import split_text


@dataclass(frozen=True)
class Reading:
    """The recorded states of a network over some tokens, and the properties to find units for."""

    recording: Recording
    properties: dict[str, list[float]]  # name → the value at every token
    separator: str  # between two tokens of a line


def show_cells(checkpoint: Path, arguments: argparse.Namespace) -> None:
    """Find the units that follow each property, plot the best ones, and write the table; or plot one unit."""
    task = read_task(checkpoint)
    reading = _read_text(checkpoint, arguments) if task == "language_model" else _read_captions(checkpoint, arguments)
    recording = reading.recording
    if not recording.tokens:
        raise DataError(f"{checkpoint} generates an empty caption for every one of these images: train it for longer.")
    out = arguments.out or _run_folder(checkpoint) / "cells"
    if arguments.unit is not None:
        values = recording.unit(arguments.unit)  # before the folder is made, for the name may be wrong
    out.mkdir(parents=True, exist_ok=True)
    if arguments.unit is not None:
        _plot(reading, arguments.unit, "", values.tolist(), arguments, out / arguments.unit)
        sys.stdout.write(f"Written: {out / arguments.unit}.png and .html\n")
        return
    rows = []
    for name, wanted in reading.properties.items():
        matches = best_units(recording.states, wanted, arguments.top)
        rows += [
            {
                "property": name,
                "unit": match.name,
                "r": f"{match.found:+.2f}",
                "on other text": f"{match.confirmed:+.2f}",
            }
            for match in matches
        ]
        if matches:
            note = f"{name}: r = {matches[0].found:+.2f}, and {matches[0].confirmed:+.2f} on text it was not chosen on"
            file = out / f"{name.replace(':', '_')}_{matches[0].name}"
            _plot(reading, matches[0].name, note, wanted, arguments, file)
        else:
            sys.stdout.write(f"Nothing to find for {name}: its value is the same at all tokens that were read.\n")
    table = markdown_table(rows)
    gates = gate_saturation(recording)
    if gates:
        saturation_plot(gates, out / "saturation.png")
        shares = [
            {
                "gate": name,
                "shut (< 0.1)": f"{float(gate.left.mean()):.3f}",
                "open (> 0.9)": f"{float(gate.right.mean()):.3f}",
            }
            for name, gate in gates.items()
        ]
        table += "\n\n" + markdown_table(shares)
    write_atomically(out / "units.md", (table + "\n").encode("utf-8"))
    sys.stdout.write(f"{table}\n\nWritten: {out}/\n")


def _read_text(checkpoint: Path, arguments: argparse.Namespace) -> Reading:
    """Record a language model on a file, or on the held-out parts of its own text."""
    if arguments.property is not None:
        choose("--property", arguments.property, TEXT_PROPERTIES)
    loaded = load_language_model(checkpoint, choose_device(arguments.device))
    level = loaded.settings.data.level
    if arguments.text is None:
        parts = load_text(loaded.settings.data)
        token_ids = torch.cat([parts.val, parts.test])[: arguments.tokens]
        tokens = loaded.vocabulary.decode(token_ids.tolist())
    else:
        tokens = split_text(read_text(arguments.text), level)[: arguments.tokens]
        token_ids = torch.tensor(loaded.vocabulary.encode(tokens))
    names = [arguments.property] if arguments.property is not None else list(TEXT_PROPERTIES)
    properties = {name: TEXT_PROPERTIES[name](tokens) for name in names}
    return Reading(record_text(loaded.model, token_ids, tokens), properties, "" if level == "characters" else " ")


def _read_captions(checkpoint: Path, arguments: argparse.Namespace) -> Reading:
    """Record a captioner while it reads the captions that it generates for the images of a split."""
    device = choose_device(arguments.device)
    loaded = load_checkpoint(checkpoint, device)
    if not cells_of(loaded.model.decoder):
        raise ConfigError(f"{checkpoint} has no RNN cell, whose units could be shown: choose a recurrent model's run.")
    data = chosen_data(checkpoint, arguments.data, arguments.data_root, arguments.set)
    dataset = load_dataset(replace(data, limit=arguments.images), arguments.split)
    features = open_features(
        dataset,
        loaded.model.encoder,
        with_grid=loaded.model.needs_grid,
        data=data,
        cache=CacheConfig(),
        device=device,
    )
    tokenizer = loaded.tokenizer()
    decoder: Any = loaded.model.decoder
    recordings, captions, references = [], [], []
    for indices, batch in features.batches(sequential_batches(len(dataset.images), 32)):
        hypotheses = search(decoder, batch, DecodeConfig(name="greedy"), loaded.vocabulary.special)
        token_ids = [list(best.tokens) for best, *_ in hypotheses]
        words = [loaded.vocabulary.decode(caption) for caption in token_ids]
        with torch.no_grad():
            recordings.append(record_captions(loaded.model, batch, token_ids, words))
        captions += words
        references += [tokenizer.tokenize_all(dataset.images[index].captions) for index in indices]
    named = [arguments.property] if arguments.property is not None else None
    wanted = named or ["position", "word:and", *(f"object:{noun}" for noun in frequent_objects(references))]
    properties = {name: caption_property(name, captions, references) for name in wanted}
    return Reading(join_recordings(recordings), properties, " ")


def _plot(
    reading: Reading, unit: str, note: str, wanted: Sequence[float], arguments: argparse.Namespace, file: Path
) -> None:
    """Plot one unit over `--plot-tokens` tokens, those where the property varies most."""
    recording = reading.recording
    begin = _most_varied(wanted, arguments.plot_tokens)
    piece = slice(begin, begin + arguments.plot_tokens)
    values = recording.unit(unit)
    squashed = arguments.scale == "tanh"
    is_cell_state = unit.split(".")[1] == "c"
    shown = (values.tanh() if squashed and is_cell_state else values).tolist()
    scale = UNIT_SCALE if squashed else percentile_scale(shown)
    starts = [start - begin for start in recording.starts]
    lines = layout_lines(recording.tokens[piece], scale.apply(shown[piece]), separator=reading.separator, starts=starts)
    title = f"tanh({unit})" if squashed and is_cell_state else unit
    write_png(lines, file.with_name(f"{file.name}.png"), title, note, scale)
    write_html(lines, file.with_name(f"{file.name}.html"), title, note, scale)


def _most_varied(values: Sequence[float], count: int) -> int:
    """The start of the window of `count` values with the largest variance; windows start half a window apart."""
    begins = range(0, max(1, len(values) - count + 1), max(1, count // 2))
    return max(begins, key=lambda begin: float(np.var(values[begin : begin + count])))


def _run_folder(checkpoint: Path) -> Path:
    """The run folder around a checkpoint, else the checkpoint's folder; the working folder for a bundled captioner."""
    if checkpoint.is_relative_to(FOLDER):
        return Path()
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
