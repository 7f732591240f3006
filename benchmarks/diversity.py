"""Accuracy against diversity of five captions per photo, one curve per search: the bundled model on Flickr8k dev.

    python benchmarks/diversity.py diversity.jsonl --data-root FLICKR8K --photos 200 --plot docs/diversity.png

Each photo is encoded once. A line of the file is one setting of one search; settings that are there already are not
searched again, so a stopped command goes on, and those of another model are an error. All settings but those of a line
are the model's (no implausible phrases), without its classes and its predicted consensus, which not every search reads;
one curve is the beam with the consensus, as the model's own search has it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.config import CacheConfig, DecodeConfig, Flickr8kConfig, MetricConfig
from captioner.data.datasets.registry import load_dataset
from captioner.data.features.cache import weights_digest
from captioner.data.features.sources import open_model_features
from captioner.evaluation.evaluate import generate_hypothesis_sets, settings_for_sets
from captioner.evaluation.evaluation import score_captions
from captioner.metrics.registry import print_factor

CAPTIONS = 5  # per photo
SCORES = ("CIDEr", "Mean_CIDEr", "Oracle_CIDEr", "Self_CIDEr", "mBLEU_4", "Div_1", "Div_2", "Distinct_1", "Distinct_2")

CURVES: dict[str, tuple[str, dict[str, Any], str, tuple[float, ...]]] = {
    "beam": ("beam", {}, "beam_width", (5, 7, 10, 20, 40)),
    "beam, consensus": ("beam", {"beam_width": 10}, "consensus_weight", (0.1, 0.3, 0.6, 1, 2)),
    "diverse, penalty": ("diverse", {"beam_width": 5, "groups": 5}, "diversity_penalty", (0.1, 0.25, 0.5, 1, 2, 4)),
    "diverse, groups": ("diverse", {"beam_width": 12, "diversity_penalty": 1.0}, "groups", (2, 3, 4, 6, 12)),
    "temperature": ("sample", {}, "temperature", (0.1, 0.25, 0.5, 0.75, 1, 1.25)),
    "top-p": ("sample", {}, "top_p", (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)),
    "top-k": ("sample", {}, "top_k", (2, 3, 5, 10, 30, 100)),
    "typical": ("sample", {}, "typical_p", (0.1, 0.2, 0.4, 0.6, 0.8, 0.95)),
    "min-p": ("sample", {}, "min_p", (0.7, 0.5, 0.2, 0.1, 0.03, 0.01)),
}
"""Name → search, settings that stay, the setting that changes, and its values, from less to more diverse."""

COLORS = ("#1b1b1b", "#8b5a2b", "#c0392b", "#e8a33d", "#1f6f8b", "#2e8b57", "#8e6bbf", "#d16ba5", "#8a8f98")


def search_all(out: Path, root: Path, photos: int) -> None:
    """Search with every setting that `out` lacks, and add a line for each."""
    checkpoint = load_checkpoint(Path("flickr8k"))
    model = weights_digest(checkpoint.model)[:12]
    if others := {line["model"] for line in read_lines(out)} - {model}:
        sys.exit(f"{out} is of another model, {', '.join(others)}, and the bundled one is {model}: give another file.")
    done = {(line["curve"], line["value"]) for line in read_lines(out)}
    data = Flickr8kConfig(root=str(root), limit=photos)
    dataset = load_dataset(data, "val")
    features = open_model_features(
        dataset, checkpoint.model, data=data, cache=CacheConfig(), device=torch.device("cpu")
    )
    base = replace(checkpoint.settings.decode, class_weight=0.0, consensus_weight=0.0)
    tokenizer = checkpoint.tokenizer()
    for curve, (search, fixed, setting, values) in CURVES.items():
        for value in values:
            if (curve, value) in done:
                continue
            whole = value if isinstance(getattr(base, setting), float) else int(value)
            decode = replace(DecodeConfig(), **{**vars(base), "name": search, **fixed, setting: whole})
            decode = settings_for_sets(decode, CAPTIONS)
            started = time.process_time()
            found = generate_hypothesis_sets(
                checkpoint.model,
                checkpoint.vocabulary,
                dataset,
                features,
                decode,
                50,
                CAPTIONS,
                consensus=checkpoint.consensus,
            )
            seconds = time.process_time() - started
            sets = {
                dataset.images[index].image_id: [
                    tokenizer.join(checkpoint.vocabulary.decode_caption(one.tokens)) for one in hypotheses
                ]
                for index, hypotheses in found.items()
            }
            scores = score_captions(
                {key: captions[0] for key, captions in sets.items()},
                dataset,
                MetricConfig(names=["CIDEr", "Diversity", "Caption_sets"]),
                checkpoint.settings.tokenizer,
                sets=sets,
            )
            line = {"model": model, "curve": curve, "value": value, "photos": len(sets), "seconds": round(seconds, 2)}
            line |= {name: scores.corpus[name] for name in SCORES}
            line["example"] = next(iter(sets.values()))
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            sys.stderr.write(f"{curve} {value:g}: {line}\n")


def read_lines(out: Path) -> list[dict[str, Any]]:
    """The lines of the file; none where it does not exist yet."""
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.exists() else []


def table(lines: list[dict[str, Any]]) -> str:
    """The scores as a table in Markdown."""
    rows = ["| search | " + " | ".join(SCORES) + " |", "|---" * (len(SCORES) + 1) + "|"]
    for line in lines:
        setting = CURVES[line["curve"]][2]
        cells = [f"{100 * line[name]:.1f}" if print_factor(name) == 100 else f"{line[name]:.3f}" for name in SCORES]
        rows.append(f"| {line['curve']}: `{setting}={line['value']:g}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """One curve per search: the mean CIDEr, and that of the best caption, against two figures of diversity."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(15, 5.4), layout="constrained")
    axes_of = (
        ("Self_CIDEr", "Mean_CIDEr", "self-CIDEr", "CIDEr, mean of the five"),
        ("mBLEU_4", "Mean_CIDEr", "1 − mBLEU-4", "CIDEr, mean of the five"),
        ("Self_CIDEr", "Oracle_CIDEr", "self-CIDEr", "CIDEr, best of the five (oracle)"),
    )
    for axes, (across, up, x_label, y_label) in zip(panels, axes_of, strict=True):
        for (curve, (*_, values)), color in zip(CURVES.items(), COLORS, strict=True):
            points = [line for value in values for line in lines if (line["curve"], line["value"]) == (curve, value)]
            x = [1 - line[across] if across == "mBLEU_4" else line[across] for line in points]
            y = [100 * line[up] for line in points]
            axes.plot(x, y, marker="o", markersize=4, linewidth=1.6, color=color, label=curve)
        axes.set_xlabel(f"{x_label}: more diverse →")
        axes.set_ylabel(y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    panels[0].legend(frameon=False, fontsize=9)
    photos, model = lines[0]["photos"], lines[0]["model"]
    figure.suptitle(f"Five captions per photo, {photos} photos of Flickr8k dev, model {model}", fontsize=12)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Search what is missing, print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the file of results, one JSON object per line")
    parser.add_argument("--data-root", type=Path, help="Flickr8k's folder; without it only what is there is drawn")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--plot", type=Path, metavar="PNG")
    arguments = parser.parse_args()
    if arguments.data_root is not None:
        search_all(arguments.out, arguments.data_root, arguments.photos)
    lines = read_lines(arguments.out)
    sys.stdout.write(table(lines) + "\n")
    if arguments.plot is not None:
        draw(lines, arguments.plot)


if __name__ == "__main__":
    main()
