"""Time to the first caption of `python caption.py photo.jpg` in a new process, compared with its lower bound.

    python benchmarks/cold_start.py

The lower bound is a process that imports torch and torchvision and passes one image through the encoder, with weights
read from their package. Each command is a new process; commands are interleaved. Reported are medians of wall-clock
time and of processor time, which other load affects less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measure import report

ROOT = Path(__file__).resolve().parent.parent
PHOTO = ROOT / "docs" / "pretrained" / "photographer.jpg"
IMPORTS = "import torch, torchvision"
ENCODER = f"""{IMPORTS}
from captioner.config import EncoderConfig
from captioner.nn.encoders.build_encoder import build_encoder
with torch.inference_mode():
    build_encoder(EncoderConfig()).eval()(torch.zeros(1, 3, 224, 224))
"""


def spent(command: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a command."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    elapsed, after = time.perf_counter() - start, os.times()
    return elapsed, after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--checkpoint", default="flickr8k", help="a run (default: the bundled model)")
    arguments = parser.parse_args()
    commands = {
        "imports": [sys.executable, "-c", IMPORTS],
        "imports_and_encoder": [sys.executable, "-c", ENCODER],
        "caption": [sys.executable, "caption.py", str(PHOTO), "--checkpoint", arguments.checkpoint],
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for turn in range(arguments.rounds + 1):
        for name, command in commands.items():
            measured = spent(command)
            if turn:  # the first one fills the system's file cache
                seconds[name].append(measured)
    clock, processor = (
        {name: statistics.median(values[kind] for values in measured) for name, measured in seconds.items()}
        for kind in (0, 1)
    )
    report(
        "cold_start",
        {
            "seconds": {name: round(value, 3) for name, value in clock.items()},
            "processor_seconds": {name: round(value, 3) for name, value in processor.items()},
            "ratio": round(clock["caption"] / clock["imports_and_encoder"], 3),
            "processor_ratio": round(processor["caption"] / processor["imports_and_encoder"], 3),
        },
    )


if __name__ == "__main__":
    main()
