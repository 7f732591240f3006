"""Write scores as Markdown tables, and per image as CSV."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from captioner.files import write_atomically
from captioner.metrics.bootstrap import Comparison, Interval
from captioner.metrics.registry import LIKELIHOODS, is_percentage, print_factor
from captioner.metrics.scorer import Scores


def format_table(scores: Scores, intervals: Mapping[str, Interval] | None = None) -> str:
    """A Markdown table of scores, as fractions and times 100 as papers print them, and the line of their signature."""
    rows = []
    for name, value in scores.corpus.items():
        printed = f"{100 * value:.1f}" if is_percentage(name) else ""
        row = [name, f"{value:.0f}" if name == "Vocabulary" else f"{value:.4f}", printed]
        if intervals is not None:
            interval = intervals.get(name)
            row.append(f"{interval.low:.4f} … {interval.high:.4f}" if interval else "")
        rows.append(row)
    header = ["score", "value", "× 100"] + (["interval"] if intervals is not None else [])
    lines = markdown_lines(header, rows)
    lines += [f"{name}: unavailable: {why}" for name, why in scores.unavailable.items()]
    lines += [*score_notices(scores), signature_line(scores)]
    return "\n".join(lines)


def format_comparison(comparisons: Mapping[str, Comparison], first: str = "first", second: str = "second") -> str:
    """A Markdown table of two systems, percentages times 100; interval and p-value are those of the difference.

    The line below it says which system is subtracted from which. Small differences have more than two decimals.
    """
    rows = [_compared(name, row) for name, row in comparisons.items()]
    lines = markdown_lines(["score", first, second, "difference", "interval", "p"], rows)
    lines.append(f"difference: {second} minus {first}; interval and two-sided p of a paired bootstrap over images")
    return "\n".join(lines)


def _compared(name: str, row: Comparison) -> list[str]:
    factor = print_factor(name)
    # As many decimals as the difference, if there is one, needs to be seen.
    decimals = next((n for n in range(2, 7) if not row.difference or round(factor * abs(row.difference), n)), 6)
    difference, low, high = (f"{factor * value:+.{decimals}f}" for value in (row.difference, row.low, row.high))
    if not row.difference:
        difference = "0"
    return [
        name,
        *(f"{factor * value:.{decimals}f}" for value in (row.first, row.second)),
        difference,
        f"{low} … {high}",
        "< 0.001" if row.p_value < 0.001 else f"{row.p_value:.3f}",
    ]


def printed_score(name: str, value: float) -> str:
    """A score as model cards and reports print it: times 100, but lengths, counts, ratios and losses as they are."""
    if print_factor(name) == 100:
        return f"{100 * value:.1f}"
    if name in LIKELIHOODS:
        return f"{value:.3f}" if value < 10 else f"{value:.1f}"
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def scale_note(names: Iterable[str]) -> str:
    """What must be known to read `printed_score` of these scores: "Scores × 100, except for Vocabulary"."""
    unscaled = [name for name in names if print_factor(name) == 1 and name not in LIKELIHOODS]
    return "Scores × 100" + (f", except for {', '.join(unscaled)}" if unscaled else "")


def signature_line(scores: Scores) -> str:
    """One line that says how scores were computed, to be quoted with them."""
    signature = scores.signature
    if not signature["references"]:
        return f"captioner {signature['captioner']}, {signature['images']} images, no references"
    fewest, most = signature["references_per_image"]
    per_image = str(most) if fewest == most else f"{fewest}–{most}"
    phrases, meteor = signature.get("fluency"), signature.get("meteor")
    images = signature.get("subset", f"{signature['images']} images")
    return (
        f"captioner {signature['captioner']}, tokenizer {signature['tokenizer']} {signature['tokenizer_version']}, "
        f"{images} × {per_image} references ({signature['references_sha256'][:8]}); "
        f"BLEU of the corpus, closest reference length; CIDEr is CIDEr-D, "
        f"sigma {signature['cider']['sigma']:g}, × {signature['cider']['scale']:g}"
        + (f"; METEOR {meteor['version']}, backend {meteor['backend']}" if meteor else "")
        + (f"; phrases of {phrases['captions']} {phrases['statistics']} ({phrases['sha256'][:8]})" if phrases else "")
    )


def score_notices(scores: Scores) -> list[str]:
    """What must be known of scores to understand them, as sentences."""
    notices = []
    if scores.without_words:
        notices.append(
            f"{scores.without_words:,} of {scores.signature['images']:,} captions have no word (they are empty, or "
            "punctuation alone), so no metric finds anything in them."
        )
    if scores.signature.get("images") == 1 and "CIDEr" in scores.corpus:
        notices.append(
            "CIDEr is 0 because one image was scored: it weighs an n-gram by log(N / df), with df of the N scored "
            "images having it in their references, and log(1 / 1) is 0. Score several images together."
        )
    return notices


def write_per_image_csv(path: str | os.PathLike[str], scores: Scores, captions: Mapping[Any, str]) -> None:
    """Write one row per image: id, caption and unrounded scores. An existing file is replaced atomically."""
    names = list(next(iter(scores.per_image.values())))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image_id", "caption", *names])
    for image_id, values in scores.per_image.items():
        writer.writerow([image_id, captions[image_id], *(values[name] for name in names)])
    write_atomically(Path(path), text.getvalue().encode("utf-8"))


def markdown_lines(header: list[str], rows: list[list[str]]) -> list[str]:
    """The lines of a Markdown table: the first column is text, the others are numbers; padded to equal widths."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(width) if not index else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = [("-" * width) if not index else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]
