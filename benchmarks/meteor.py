"""METEOR of COCO val2017's captions: the jar with its start and warm, and captioner's own code cold and warm.

    python benchmarks/meteor.py CAPTIONS_VAL2017_JSON [--images 5000] [--references 4]

Each image's first caption is scored against its others. Processor seconds, of the Java process too, since both are one
thread's work; the median of three warm runs. The index of paraphrases is made in a temporary cache before, and timed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from captioner.config import TokenizerConfig
from captioner.metrics.meteor.jar import MeteorJar
from captioner.metrics.meteor.meteor import Meteor
from captioner.metrics.meteor.meteor_metric import evaluate
from captioner.text import build_tokenizer

T = TypeVar("T")
RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=4)
    options = parser.parse_args()
    hypotheses, references = read_captions(options.captions, options.images, options.references)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CAPTIONER_CACHE"] = cache
        making, _ = timed(Meteor, time.process_time)
        opening, meteor = timed(Meteor, time.process_time)
        cold, ours = timed(lambda: meteor.statistics(hypotheses, references), time.process_time)
        warm = [timed(lambda: meteor.statistics(hypotheses, references), time.process_time)[0] for _ in range(RUNS)]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with MeteorJar() as jar:
        jar.statistics(hypotheses[:1], references[:1])
        start = java_seconds(jar)
        jar_times, theirs = [], ours
        for _ in range(RUNS):
            before = java_seconds(jar)
            theirs = jar.statistics(hypotheses, references)
            jar_times.append(java_seconds(jar) - before)
    record = {
        "images": len(hypotheses),
        "references": options.references,
        "equal": bool(np.array_equal(ours, theirs)),
        "METEOR": round(evaluate(ours)[1], 6),
        "index_made_seconds": round(making, 2),
        "index_opened_seconds": round(opening, 3),
        "ours_cold_seconds": round(cold, 2),
        "ours_warm_seconds": round(statistics.median(warm), 2),
        "jar_start_seconds": round(start, 2),
        "jar_first_seconds": round(jar_times[0], 2),
        "jar_warm_seconds": round(statistics.median(jar_times[1:]), 2),
        "ours_peak_mb": round(memory),
    }
    sys.stdout.write(json.dumps(record) + "\n")


def read_captions(path: Path, images: int, references: int) -> tuple[list[str], list[list[str]]]:
    """The first caption of each image, and the next ones as its references, as tokens joined by spaces."""
    by_image: dict[int, list[str]] = defaultdict(list)
    for annotation in json.loads(path.read_text("utf-8"))["annotations"]:
        by_image[annotation["image_id"]].append(annotation["caption"])
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    groups = [[" ".join(tokens) for tokens in tokenize(captions)] for captions in list(by_image.values())[:images]]
    return [group[0] for group in groups], [group[1 : 1 + references] for group in groups]


def timed(work: Callable[[], T], clock: Callable[[], float]) -> tuple[float, T]:
    """Seconds, and the result."""
    before = clock()
    result = work()
    return clock() - before, result


def java_seconds(jar: MeteorJar) -> float:
    """Processor seconds of the Java process so far (Linux)."""
    fields = Path(f"/proc/{jar.process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
