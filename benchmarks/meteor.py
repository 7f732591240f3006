"""METEOR of COCO val2017's captions: the jar with its start and warm, and captioner's own code cold and warm.

    python benchmarks/meteor.py CAPTIONS_VAL2017_JSON [--images 5000] [--references 5] [--rounds 3] [--slope 1000 40000]

Each image's first caption is scored against its others, filled up with captions of the next image. Rounds of the jar
and of a new Python process take turns; results are medians. Seconds are given as [processor time, wall time], for
other programs may use the machine: start (of the program, with what it reads), first run and warm run. "slope" has
captioner's processor seconds for more and more images, all in one call. One line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from process_memory import memory_of

Captions = tuple[list[str], list[list[str]]]  # hypotheses, references


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slope", type=int, nargs="*", default=[1000, 5000, 10000, 20000, 40000], metavar="IMAGES")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        sys.stdout.write(json.dumps(ours(options.captions)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CAPTIONER_CACHE"] = folder
        sys.stdout.write(json.dumps(measure(options, Path(folder) / "captions.json")) + "\n")


def measure(options: argparse.Namespace, file: Path) -> dict[str, Any]:
    """All results; `file`: where to leave captions for the Python processes."""
    groups = read_captions(options.captions)
    captions = choose(groups, options.images, options.references)
    file.write_text(json.dumps(captions))
    making = run_ours(file)  # the index, too
    jar_runs, our_runs = [], []
    for _ in range(options.rounds):
        jar_runs.append(jar(*captions))
        our_runs.append(run_ours(file))
    whole, warm = (medians(jar_runs, key) for key in ("whole", "warm"))
    our_whole, our_warm = (medians(our_runs, key) for key in ("whole", "warm"))
    slope = {}
    for images in options.slope:
        file.write_text(json.dumps(choose(groups, images, options.references)))
        run = run_ours(file)
        slope[images] = [round(run["first"][0], 2), run["peak_mb"]]
    record = {
        "images": options.images,
        "references": options.references,
        "equal": {run["statistics"] for run in jar_runs} == {run["statistics"] for run in our_runs},
        **{f"jar_{key}": medians(jar_runs, key) for key in ("start", "first", "warm", "whole")},
        **{f"ours_{key}": medians(our_runs, key) for key in ("start", "first", "warm", "whole")},
        "times_as_fast_whole": [round(a / b, 1) for a, b in zip(whole, our_whole, strict=True)],
        "times_as_fast_warm": [round(a / b, 1) for a, b in zip(warm, our_warm, strict=True)],
        "ours_peak_mb": max(run["peak_mb"] for run in our_runs),
        "jar_peak_mb": max(run["peak_mb"] for run in jar_runs),
        "index_making_seconds": making["start"],
        "index_making_peak_mb": making["peak_after_start_mb"],
        "slope_seconds_and_peak_mb": slope,
    }
    if len(slope) > 1:
        (few, (first, _)), (many, (last, _)) = next(iter(slope.items())), list(slope.items())[-1]
        record["slope_exponent"] = round(math.log(last / first) / math.log(many / few), 2)
    return record


def ours(file: Path) -> dict[str, Any]:
    """One round of captioner in this process, which has done nothing else."""
    hypotheses, references = json.loads(file.read_text())
    reading = clocks()
    from captioner.metrics.meteor.meteor import Meteor

    meteor = Meteor()
    opened = clocks()
    peak = peak_mb("self")
    found = meteor.statistics(hypotheses, references)
    first = clocks()
    meteor.statistics(hypotheses, references)
    return {
        "start": since(reading, opened),
        "first": since(opened, first),
        "whole": since(reading, first),
        "warm": since(first, clocks()),
        "peak_after_start_mb": peak,
        "peak_mb": peak_mb("self"),
        "statistics": digest(found),
    }


def jar(hypotheses: list[str], references: list[list[str]]) -> dict[str, Any]:
    """One round of the jar in a new Java process."""
    from captioner.metrics.meteor.jar import MeteorJar

    wall = time.perf_counter()
    with MeteorJar() as process:
        process.statistics(["a"], [["a"]])
        begin = (0.0, wall)
        started = java_clocks(process.process_id)
        found = process.statistics(hypotheses, references)
        first = java_clocks(process.process_id)
        process.statistics(hypotheses, references)
        return {
            "start": since(begin, started),
            "first": since(started, first),
            "whole": since(begin, first),
            "warm": since(first, java_clocks(process.process_id)),
            "peak_mb": peak_mb(str(process.process_id)),
            "statistics": digest(found),
        }


def run_ours(file: Path) -> dict[str, Any]:
    """`ours` in a new process."""
    done = subprocess.run([sys.executable, __file__, str(file), "--worker"], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_captions(path: Path) -> list[list[str]]:
    """The captions of each image, as tokens joined by spaces."""
    from captioner.config import TokenizerConfig
    from captioner.text import build_tokenizer

    by_image: dict[int, list[str]] = defaultdict(list)
    for annotation in json.loads(path.read_text("utf-8"))["annotations"]:
        by_image[annotation["image_id"]].append(annotation["caption"])
    tokenize = build_tokenizer(TokenizerConfig()).tokenize_all
    return [[" ".join(tokens) for tokens in tokenize(captions)] for captions in by_image.values()]


def choose(groups: list[list[str]], images: int, references: int) -> Captions:
    """A caption of each image, and captions to compare it with. Beyond the images that there are, it is another one."""
    hypotheses, of_each = [], []
    for index in range(images):
        turn, image = divmod(index, len(groups))
        hypothesis = turn % len(groups[image])
        others = [caption for place, caption in enumerate(groups[image]) if place != hypothesis]
        more = groups[(image + 1 + turn) % len(groups)]
        hypotheses.append(groups[image][hypothesis])
        of_each.append([*others, *more][:references])
    return hypotheses, of_each


def clocks() -> tuple[float, float]:
    """Processor and wall seconds."""
    return time.process_time(), time.perf_counter()


def java_clocks(process: int) -> tuple[float, float]:
    """Those of a Java process so far (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.perf_counter()


def peak_mb(process: str) -> int:
    """The peak of a process's memory so far (Linux). Pages of mapped files count, too."""
    return round(memory_of(process)["VmHWM"] / 2**20)


def since(before: tuple[float, float], after: tuple[float, float]) -> list[float]:
    return [end - begin for begin, end in zip(before, after, strict=True)]


def medians(runs: list[dict[str, Any]], key: str) -> list[float]:
    """Of processor and wall seconds."""
    return [round(statistics.median(column), 2) for column in zip(*(run[key] for run in runs), strict=True)]


def digest(found: Any) -> str:
    return hashlib.sha256(found.astype("<f8").tobytes()).hexdigest()


if __name__ == "__main__":
    main()
