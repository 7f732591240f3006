"""What `python evaluate.py` prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.cli.runs_folder import shown
from captioner.evaluation.evaluation import Evaluation, format_scores
from captioner.metrics.format import signature_line
from captioner.metrics.grounding_scores import format_grounding


def print_evaluation(evaluations: Sequence[Evaluation], names: Sequence[str], folder: Path) -> None:
    """Print the scores, one row per system, what could not be scored, and where everything was written.

    names: of the systems, one for each evaluation. folder: where the first evaluation was written.
    """
    first = evaluations[0]
    split = f"{first.split}, {first.signature['subset']}" if "subset" in first.signature else first.split
    if len(names) > 1:
        rows = [(name, evaluation.table_row) for name, evaluation in zip(names, evaluations, strict=True)]
        table = format_scores(rows, split)
    else:
        table = format_scores([(split, first.table_row)], "split")
    if not first.scores.corpus:
        table = f"{len(first.captions):,} images of {first.signature['data']} {split} were captioned."
    sys.stdout.write(f"\n{table}\n{signature_line(first.scores)}\n")
    for name, why in first.scores.unavailable.items():
        sys.stdout.write(f"{name} unavailable: {why}\n")
    for evaluation, name in zip(evaluations, names, strict=True):
        if evaluation.grounding is not None:
            heading = f"{name}\n" if len(names) > 1 else ""
            sys.stdout.write(f"\n{heading}{format_grounding(evaluation.grounding)}\n")
    common = set(first.notices).intersection(*(evaluation.notices for evaluation in evaluations))
    for evaluation, name in zip(evaluations, names, strict=True):
        for notice in evaluation.notices:
            if notice not in common:
                sys.stdout.write(f"Note: {name}: {notice}\n")
            elif evaluation is first:
                sys.stdout.write(f"Note: {notice}\n")
    if first.skipped:
        sys.stdout.write(f"Left out {len(first.skipped)} images that cannot be read; see metrics.json.\n")
    sys.stdout.write(f"\nWritten: {shown(folder)}/metrics.json and captions_{first.split}.json\n")
