"""Photos to captions: `Captioner.caption_each`, as `caption.py FOLDER` uses it, beside one photo after the other.

    python benchmarks/caption_folder.py FOLDER                    images per second, and the captions compared
    python benchmarks/caption_folder.py FOLDER --memory 100000    peak memory at this many photos (links to FOLDER's)

The two take turns on the same photos, with the search that the checkpoint was made for. Seconds of the processor are
less affected by what else the machine does than those of the clock; both are medians of `--rounds`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from measure import peak_memory, report

from captioner import Caption, Captioner, ImageError
from captioner.data.images.decode import IMAGE_SUFFIXES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of photos")
    parser.add_argument("--checkpoint", default="flickr8k", help="a run (default: the bundled model)")
    parser.add_argument("--count", type=int, default=200, help="photos (default: 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="N", help="caption N photos, each of the folder's many times")
    arguments = parser.parse_args()
    photos = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    photos = photos[: arguments.count]
    captioner = Captioner.from_checkpoint(arguments.checkpoint, device="cpu")
    if arguments.memory:
        measure_memory(captioner, photos, arguments.memory)
        return
    cases: dict[str, Callable[[], list[Caption | ImageError]]] = {
        "one_by_one": lambda: [captioner.caption(photo) for photo in photos],
        "each": lambda: list(captioner.caption_each(photos)),
    }
    clock: dict[str, list[float]] = {name: [] for name in cases}
    processor: dict[str, list[float]] = {name: [] for name in cases}
    captions = {}
    captioner.caption(photos[0])
    for _ in range(arguments.rounds):
        for name, case in cases.items():
            started, used = time.perf_counter(), time.process_time()
            captions[name] = case()
            clock[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
    one, each = (statistics.median(clock[name]) for name in cases)
    different = [
        str(photo) for photo, first, second in zip(photos, *captions.values(), strict=True) if str(first) != str(second)
    ]
    report(
        "caption_folder",
        {
            "photos": len(photos),
            "images_per_second": {name: round(len(photos) / statistics.median(clock[name]), 1) for name in cases},
            "processor_seconds_per_image": {
                name: round(statistics.median(processor[name]) / len(photos), 4) for name in cases
            },
            "ratio": round(one / each, 2),
            "different_captions": different,
        },
    )


def measure_memory(captioner: Captioner, photos: list[Path], count: int) -> None:
    """Report the peak memory after a hundredth of the photos, and after all of them."""
    first = 0
    for number, _ in enumerate(captioner.caption_each(itertools.islice(itertools.cycle(photos), count)), 1):
        if number == max(1, count // 100):
            first = peak_memory()
    report(
        "caption_folder_memory",
        {"photos": count, "peak_MB": {count // 100: round(first / 1e6), count: round(peak_memory() / 1e6)}},
    )


if __name__ == "__main__":
    main()
