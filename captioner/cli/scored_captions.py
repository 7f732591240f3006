"""What `captioner caption --score` prints: how probable the model finds the captions that a person gives."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.metrics.format import markdown_lines

if TYPE_CHECKING:
    from captioner.evaluation.scored_caption import ScoredCaption


def print_scored(path: Path, scored: ScoredCaption, *, as_json: bool) -> None:
    """Print the caption's log-probability and that of each word, as text or as a line of JSON."""
    if as_json:
        record = {
            "path": str(path),
            "caption": scored.text,
            "log_prob": scored.log_prob,
            "nats_per_word": scored.nats_per_word,
            "perplexity": scored.perplexity,
            "words": [
                {"word": word.word, "log_prob": word.log_prob, "rank": word.rank, "known": word.known}
                for word in scored.words
            ],
            "unknown_words": list(scored.unknown_words),
        }
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    rows = [
        [word.word if word.known else f"{word.word} (unknown)", f"{word.log_prob:.2f}", str(word.rank)]
        for word in scored.words
    ]
    table = "\n".join(markdown_lines(["word", "log p", "rank"], rows))
    sys.stdout.write(
        f"{path}: {scored.text}\n"
        f"log-probability {scored.log_prob:.2f} nats, {scored.nats_per_word:.2f} per word with <END> "
        f"(perplexity {scored.perplexity:.1f})\n\n{table}\n\n"
    )
    if scored.unknown_words:
        names = ", ".join(map(repr, scored.unknown_words))
        sys.stderr.write(f"Note: {names} did not occur in the training captions; the model reads <UNK> there.\n")
