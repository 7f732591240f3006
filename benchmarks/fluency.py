"""False alarms of the metric Fluency on captions that people wrote, and what it finds in generated ones.

    python benchmarks/fluency.py flickr8k/ --coco captions_val2017.json --results runs/…/captions_val.json

Human captions are never judged by statistics of captions of the same image: train is divided into five parts, each
judged by the other four; dev is judged by train.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from captioner.config import Flickr8kConfig
from captioner.data.datasets.registry import load_dataset
from captioner.metrics.fluency import FluencyChecker
from captioner.text import ptb_tokenize
from captioner.text.phrases import KINDS

FOLDS = 5
SHOWN = 20
Images = Sequence[Sequence[list[str]]]  # of each image, its captions as words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("flickr8k", type=Path, help="the folder of Flickr8k, with its train and dev splits")
    parser.add_argument("--coco", type=Path, help="a caption annotation file of COCO")
    parser.add_argument("--results", type=Path, help="generated captions of dev, as evaluate.py writes them")
    arguments = parser.parse_args()

    train, dev = (flickr8k(arguments.flickr8k, split) for split in ("train", "val"))
    checker = FluencyChecker(flat(train))
    print_row("captions", "number", "flagged %", *KINDS)
    report("Flickr8k dev, people", map(checker.kinds, flat(dev)))
    report(f"Flickr8k train, people, {FOLDS} parts", held_out(train))
    if arguments.coco:
        report(f"COCO, people, {FOLDS} parts", held_out(coco(arguments.coco)))
    if arguments.results:
        generated = [ptb_tokenize(entry["caption"]) for entry in json.loads(arguments.results.read_text())]
        report("generated", map(checker.kinds, generated))
        from_dev = FluencyChecker(flat(dev))
        report("generated, statistics of dev's own references", map(from_dev.kinds, generated))
        show(checker, generated)


def flickr8k(root: Path, split: str) -> Images:
    return [list(map(ptb_tokenize, image.captions)) for image in load_dataset(Flickr8kConfig(root=str(root)), split)]


def coco(path: Path) -> Images:
    of_image: dict[int, list[list[str]]] = {}
    for entry in json.loads(path.read_text())["annotations"]:
        of_image.setdefault(entry["image_id"], []).append(ptb_tokenize(entry["caption"]))
    return list(of_image.values())


def flat(images: Images) -> list[list[str]]:
    return [caption for image in images for caption in image]


def held_out(images: Images) -> Iterator[set[str]]:
    """The kinds of implausible phrases of every caption, judged by the captions of the other parts' images."""
    for part in range(FOLDS):
        checker = FluencyChecker(flat([image for i, image in enumerate(images) if i % FOLDS != part]))
        yield from map(checker.kinds, flat(images[part::FOLDS]))


def report(name: str, kinds: Iterable[set[str]]) -> None:
    found = list(kinds)
    counts = Counter(kind for of_caption in found for kind in of_caption)
    shares = [100 * count / len(found) for count in (sum(map(bool, found)), *(counts[kind] for kind in KINDS))]
    print_row(name, str(len(found)), *(f"{share:.2f}" for share in shares))


def print_row(*cells: str) -> None:
    sys.stdout.write(f"{cells[0]:<46}" + "".join(f"{cell:>11}" for cell in cells[1:]) + "\n")


def show(checker: FluencyChecker, captions: Sequence[list[str]]) -> None:
    """Random captions that are flagged, with their phrases, and random ones that are not."""
    distinct = sorted(set(map(tuple, captions)))
    random.Random(0).shuffle(distinct)
    flagged = [caption for caption in distinct if checker.find(caption)]
    passed = [caption for caption in distinct if not checker.find(caption)]
    for title, chosen in (("flagged", flagged[:SHOWN]), ("passed", passed[:SHOWN])):
        sys.stdout.write(f"\n{title}\n")
        for caption in chosen:
            phrases = "; ".join(f"{kind}: {phrase}" for kind, phrase in checker.find(caption))
            sys.stdout.write(f"  {' '.join(caption)}{f'  [{phrases}]' if phrases else ''}\n")


if __name__ == "__main__":
    main()
