"""Photos to captions: `Captioner.caption_each`, as `caption.py FOLDER` uses it, beside one photo after the other.

    python benchmarks/caption_folder.py FOLDER                    images per second, and the captions compared
    python benchmarks/caption_folder.py FOLDER --onnx DIR DIR2    also by onnxruntime, from folders of export --onnx
    python benchmarks/caption_folder.py FOLDER --memory 100000    peak memory at this many photos (links to FOLDER's)

All take turns on the same photos, with the search that the checkpoint was made for, or with --beam a plain beam of 5.
Seconds of the processor are less affected by what else the machine does than those of the clock; both are medians of
`--rounds`. With --memory and --onnx, onnxruntime captions.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import peak_memory, report

from captioner import Caption, Captioner, DecodeConfig, ImageError
from captioner.data.images.decode import IMAGE_SUFFIXES
from captioner.runtime import OnnxCaptioner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of photos")
    parser.add_argument("--checkpoint", default="flickr8k", help="a run (default: the bundled model)")
    parser.add_argument("--count", type=int, default=200, help="photos (default: 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx", type=Path, nargs="+", default=[], metavar="DIR", help="folders of export --onnx")
    parser.add_argument("--beam", action="store_true", help="a beam of 5 without classes and guards, and no tags")
    parser.add_argument("--memory", type=int, metavar="N", help="caption N photos, each of the folder's many times")
    arguments = parser.parse_args()
    photos = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    photos = photos[: arguments.count]
    settings: dict[str, Any] = {"decode": DecodeConfig(beam_width=5), "tags": False} if arguments.beam else {}
    if arguments.memory:
        first: Any = (
            OnnxCaptioner.from_checkpoint(arguments.onnx[0])
            if arguments.onnx
            else Captioner.from_checkpoint(arguments.checkpoint, device="cpu")
        )
        measure_memory(first, photos, arguments.memory, settings)
        return
    captioner = Captioner.from_checkpoint(arguments.checkpoint, device="cpu")
    cases: dict[str, Callable[[], list[Caption | ImageError]]] = {
        "one_by_one": lambda: [captioner.caption(photo, **settings) for photo in photos],
        "each": lambda: list(captioner.caption_each(photos, **settings)),
    }
    for folder in arguments.onnx:
        exported = OnnxCaptioner.from_checkpoint(folder)
        cases[folder.name] = lambda exported=exported: list(exported.caption_each(photos, **settings))
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
    of_clock, of_processor = (
        {name: statistics.median(values) for name, values in measured.items()} for measured in (clock, processor)
    )
    report(
        "caption_folder",
        {
            "photos": len(photos),
            "images_per_second": {name: round(len(photos) / seconds, 1) for name, seconds in of_clock.items()},
            "processor_seconds_per_image": {
                name: round(seconds / len(photos), 4) for name, seconds in of_processor.items()
            },
            "ratio_by_clock": {name: round(of_clock["one_by_one"] / one, 2) for name, one in of_clock.items()},
            "ratio_by_processor": {
                name: round(of_processor["one_by_one"] / one, 2) for name, one in of_processor.items()
            },
            "other_captions_than_one_by_one": {
                name: sum(str(a) != str(b) for a, b in zip(found, captions["one_by_one"], strict=True))
                for name, found in captions.items()
            },
        },
    )


def measure_memory(captioner: Any, photos: list[Path], count: int, settings: dict[str, Any]) -> None:
    """Report the peak memory after a hundredth of the photos, and after all of them."""
    first = 0
    endless = itertools.islice(itertools.cycle(photos), count)
    for number, _ in enumerate(captioner.caption_each(endless, **settings), 1):
        if number == max(1, count // 100):
            first = peak_memory()
    report(
        "caption_folder_memory",
        {"photos": count, "peak_MB": {count // 100: round(first / 1e6), count: round(peak_memory() / 1e6)}},
    )


if __name__ == "__main__":
    main()
