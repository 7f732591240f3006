"""Speed of the tokenizer, compared with the official Java tokenizer in the same run.

    python benchmarks/tokenizer.py                            # 40,000 generated captions
    python benchmarks/tokenizer.py captions_val2017.json      # a COCO annotation file
    python benchmarks/tokenizer.py a.json Flickr8k.token.txt  # or text files: of each line, the part after the last tab

Prints one line of JSON: medians in seconds. `python_cold` starts with empty caches, as a program's first call does;
`python_warm` tokenizes the same captions again. `java` includes the start of its virtual machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from captioner.errors import CaptionerError
from captioner.text import ptb
from captioner.text.java_ptb import java_ptb_tokenize_all


def generated_captions(count: int) -> list[str]:
    """Captions of 8 to 14 words sampled from 10,000 by Zipf's law, some with an apostrophe, a hyphen or a comma."""
    generator = random.Random(0)
    words = ["".join(generator.choices("etaoinshrdlucmfw", k=generator.randint(2, 9))) for _ in range(10_000)]
    words[7::50] = [f"{word}'s" for word in words[7::50]]
    words[9::40] = [f"{word}-{other}" for word, other in zip(words[9::40], words[11::40], strict=True)]
    words[5::30] = [f"{word}," for word in words[5::30]]
    weights = [1 / (rank + 3) for rank in range(len(words))]
    return [
        " ".join(["A", *generator.choices(words, weights, k=generator.randint(7, 13))])
        + generator.choice([".", "", " ."])
        for _ in range(count)
    ]


def read_captions(path: Path) -> list[str]:
    """The captions of a COCO annotation file, or the lines of a text file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [annotation["caption"] for annotation in json.loads(text)["annotations"]]
    return [line.rsplit("\t", 1)[-1] for line in text.split("\n") if line]


def seconds(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def clear_caches() -> None:
    """Empty the tokenizer's caches, as in a new process."""
    ptb._PIECES.clear()
    ptb._lexer.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="COCO annotation files or text files (default: generated)")
    parser.add_argument("--count", type=int, default=40_000, help="at most this many captions")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    captions = [caption for path in options.files for caption in read_captions(path)][: options.count]
    captions = captions or generated_captions(options.count)

    times: dict[str, list[float]] = {"python_cold": [], "python_warm": [], "java": []}
    missing = ""
    for _ in range(options.repeat):
        clear_caches()
        times["python_cold"].append(seconds(lambda: [ptb.ptb_tokenize(caption) for caption in captions]))
        times["python_warm"].append(seconds(lambda: [ptb.ptb_tokenize(caption) for caption in captions]))
        try:
            times["java"].append(seconds(lambda: java_ptb_tokenize_all(captions)))
        except CaptionerError as error:
            missing = str(error)
    report: dict[str, object] = {"captions": len(captions), "repeat": options.repeat}
    report |= {name: round(statistics.median(values), 3) for name, values in times.items() if values}
    if missing:
        report["java"] = f"unavailable: {missing}"
    else:
        ours = [ptb.ptb_tokenize(caption) for caption in captions]
        report["java_over_python_cold"] = round(
            statistics.median(times["java"]) / statistics.median(times["python_cold"]), 2
        )
        report["captions_that_differ"] = sum(a != b for a, b in zip(ours, java_ptb_tokenize_all(captions), strict=True))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
