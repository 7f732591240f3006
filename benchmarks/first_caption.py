"""The first caption of a new process: processor time and peak memory, by each backend, in turns.

    python benchmarks/first_caption.py [photo.jpg] [--rounds 5]

Runs `python caption.py PHOTO --backend …` on the bundled model, one thread, and prints medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measure import report

ROOT = Path(__file__).resolve().parent.parent
PROBE = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, "
    "stderr=subprocess.DEVNULL); u = resource.getrusage(resource.RUSAGE_CHILDREN); "
    "print(u.ru_utime + u.ru_stime, u.ru_maxrss)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", nargs="?", type=Path, default=ROOT / "docs" / "pretrained" / "photographer.jpg")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {"torch": [], "onnx": []}
    for _ in range(arguments.rounds):
        for backend, values in measured.items():
            command = [sys.executable, str(ROOT / "caption.py"), str(arguments.photo.resolve()), "--backend", backend]
            done = subprocess.run(
                [sys.executable, "-c", PROBE, *command],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            seconds, kilobytes = map(float, done.stdout.split())
            values.append((seconds, kilobytes / 1000))
    for backend, values in measured.items():
        seconds, megabytes = (round(statistics.median(column), 2) for column in zip(*values, strict=True))
        report(backend, {"seconds of processor": seconds, "peak memory, MB": round(megabytes)})


if __name__ == "__main__":
    main()
