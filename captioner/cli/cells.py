"""`python -m captioner cells checkpoint=runs/…`: which unit keeps track of what, as colored text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config.checks import at_least
from captioner.errors import CheckpointError, DataError, choose

if TYPE_CHECKING:
    from captioner.analysis.activations import Recording

HELP = """\
Show what the units of a trained network keep track of, as colored text (PNG and HTML), and how often its gates
are saturated. For language models and captioners.

  python -m captioner cells checkpoint=runs/...                      the best units for every property
  python -m captioner cells checkpoint=runs/... property=quotes
  python -m captioner cells checkpoint=runs/... unit=layer1.c.37
  python -m captioner cells checkpoint=runs/... property=object:dog  (a captioner)

  checkpoint  a run folder (its best checkpoint) or a checkpoint folder
  text        a language model reads this file (default: the text it was trained on, the parts it was not trained on)
  property    text: quotes, line_position, brackets, indentation, comment, word
              captions: position, word:and, object:dog (or any other word)
  unit        draw this unit, whatever it does
  top         units listed for a property; the best one is drawn (default: 3)
  read        tokens of text that are read (default: 20000)
  images      images that are captioned and read (default: 300)
  split       of the run's data set, for a captioner (default: val)
  draw        tokens that are drawn (default: 2000)
  scale       own: red and blue are the unit's lowest and highest values; tanh: −1 and +1, cell states squashed
              by tanh, as in the paper (default: own)
  out         the folder for images and pages (default: cells/ in the run folder)
  device      auto, cpu, cuda, cuda:1 or mps (default: auto)
"""


@dataclass
class CellsOptions:
    """What the command is given."""

    checkpoint: str = field(kw_only=True)
    text: str | None = None
    property: str | None = None
    unit: str | None = None
    top: int = 3
    read: int = 20_000
    images: int = 300
    split: str = "val"
    draw: int = 2000
    scale: str = "own"
    out: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for key in ("top", "read", "images", "draw"):
            at_least(key, getattr(self, key), 1)
        choose("scale", self.scale, ("own", "tanh"))


@dataclass(frozen=True)
class Reading:
    """What a network did, and what there is to look for."""

    recording: Recording
    properties: dict[str, list[float]]  # of every token
    separator: str  # between two tokens of a line


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _cells(sys.argv[1:])))


def _cells(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return
    options = read_options(CellsOptions, arguments)

    from captioner.analysis.activations import gate_saturation
    from captioner.analysis.unit_search import best_units
    from captioner.checkpoint.checkpoint import read_task
    from captioner.checkpoint.index import find_checkpoint
    from captioner.cli.tables import markdown_table
    from captioner.plots.unit_plots import saturation_plot

    checkpoint = find_checkpoint(Path(options.checkpoint))
    task = read_task(checkpoint)
    reading = _read_text(checkpoint, options) if task == "language_model" else _read_captions(checkpoint, options)
    recording = reading.recording
    if not recording.tokens:
        raise DataError(f"{checkpoint} says nothing of these images (every caption is empty): train it for longer.")
    out = Path(options.out) if options.out else _run_folder(checkpoint) / "cells"
    if options.unit is not None:
        values = recording.unit(options.unit)  # a name that is wrong is said before a folder is made
    out.mkdir(parents=True, exist_ok=True)
    if options.unit is not None:
        _draw(reading, options.unit, "", values.tolist(), options, out / options.unit)
        sys.stdout.write(f"Written: {out / options.unit}.png and .html\n")
        return
    rows = []
    for name, wanted in reading.properties.items():
        matches = best_units(recording.states, wanted, options.top)
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
            _draw(reading, matches[0].name, note, wanted, options, file)
        else:
            sys.stdout.write(f"Nothing to find for {name}: it is the same everywhere in what was read.\n")
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
    (out / "units.md").write_text(table + "\n", encoding="utf-8")
    sys.stdout.write(f"{table}\n\nWritten: {out}/\n")


def _read_text(checkpoint: Path, options: CellsOptions) -> Reading:
    """A language model reads a file, or the held-out parts of its own text."""
    import torch

    from captioner.analysis.activations import record_text
    from captioner.analysis.properties import TEXT_PROPERTIES
    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.data.text_corpus import load_text, read_text
    from captioner.distributed.device import choose_device
    from captioner.text.text_tokens import split_text

    if options.property is not None:
        choose("property", options.property, TEXT_PROPERTIES)
    loaded = load_language_model(checkpoint, choose_device(options.device))
    level = loaded.settings.data.level
    if options.text is None:
        parts = load_text(loaded.settings.data)
        numbers = torch.cat([parts.val, parts.test])[: options.read]
        tokens = loaded.vocabulary.decode(numbers.tolist())
    else:
        tokens = split_text(read_text(Path(options.text)), level)[: options.read]
        numbers = torch.tensor(loaded.vocabulary.encode(tokens))
    names = [options.property] if options.property is not None else list(TEXT_PROPERTIES)
    properties = {name: TEXT_PROPERTIES[name](tokens) for name in names}
    return Reading(record_text(loaded.model, numbers, tokens), properties, "" if level == "characters" else " ")


def _read_captions(checkpoint: Path, options: CellsOptions) -> Reading:
    """A captioner reads the captions that it says of its run's images."""
    import torch

    from captioner.analysis.activations import join_recordings, record_captions
    from captioner.analysis.properties import caption_property, frequent_objects
    from captioner.checkpoint.checkpoint import load_checkpoint
    from captioner.cli.data_source import data_of_run
    from captioner.config import CacheConfig, DecodeConfig
    from captioner.data.batches import sequential_batches
    from captioner.data.datasets.registry import load_dataset
    from captioner.data.features.sources import open_features
    from captioner.decode import search
    from captioner.distributed.device import choose_device
    from captioner.text.tokenizers import build_tokenizer

    device = choose_device(options.device)
    loaded = load_checkpoint(checkpoint, device)
    data = data_of_run(checkpoint)
    if data is None:
        raise CheckpointError(f"{checkpoint} does not stand in its run folder, whose config.yaml names the images.")
    dataset = load_dataset(replace(data, limit=options.images), options.split)
    features = open_features(
        dataset,
        loaded.model.encoder,
        with_grid=loaded.model.needs_grid,
        data=data,
        cache=CacheConfig(),
        device=device,
    )
    tokenizer = build_tokenizer(loaded.settings.tokenizer)
    decoder: Any = loaded.model.decoder
    recordings, captions, references = [], [], []
    for indices, batch in features.batches(sequential_batches(len(dataset.images), 32)):
        said = search(decoder, batch, DecodeConfig(name="greedy"), loaded.vocabulary.special)
        numbers = [list(best.tokens) for best, *_ in said]
        words = [loaded.vocabulary.decode(own) for own in numbers]
        with torch.no_grad():
            recordings.append(record_captions(loaded.model, batch, numbers, words))
        captions += words
        references += [tokenizer.tokenize_all(dataset.images[index].captions) for index in indices]
    named = [options.property] if options.property is not None else None
    wanted = named or ["position", "word:and", *(f"object:{noun}" for noun in frequent_objects(references))]
    properties = {name: caption_property(name, captions, references) for name in wanted}
    return Reading(join_recordings(recordings), properties, " ")


def _draw(reading: Reading, unit: str, note: str, wanted: Sequence[float], options: CellsOptions, file: Path) -> None:
    """One unit over some tokens, those where the property varies most."""
    from captioner.plots.unit_plots import UNIT_SCALE, layout_lines, percentile_scale, write_html, write_png

    recording = reading.recording
    begin = _liveliest(wanted, options.draw)
    piece = slice(begin, begin + options.draw)
    values = recording.unit(unit)
    as_paper = options.scale == "tanh"
    is_cell_state = unit.split(".")[1] == "c"
    shown = (values.tanh() if as_paper and is_cell_state else values).tolist()
    scale = UNIT_SCALE if as_paper else percentile_scale(shown)
    starts = [start - begin for start in recording.starts]
    lines = layout_lines(recording.tokens[piece], scale.apply(shown[piece]), separator=reading.separator, starts=starts)
    title = f"tanh({unit})" if as_paper and is_cell_state else unit
    write_png(lines, file.with_name(f"{file.name}.png"), title, note, scale)
    write_html(lines, file.with_name(f"{file.name}.html"), title, note, scale)


def _liveliest(values: Sequence[float], count: int) -> int:
    """Where a window of `count` values varies most, in steps of half a window."""
    import numpy as np

    begins = range(0, max(1, len(values) - count + 1), max(1, count // 2))
    return max(begins, key=lambda begin: float(np.var(values[begin : begin + count])))


def _run_folder(checkpoint: Path) -> Path:
    """The run that a checkpoint stands in, or the checkpoint's own folder; the working folder for the package's own."""
    from captioner.checkpoint.pretrained import FOLDER

    if checkpoint.is_relative_to(FOLDER):
        return Path()
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
