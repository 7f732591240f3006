"""Processor seconds until a command answers: help, a typo, and a file that is missing.

    python benchmarks/startup.py                    one JSON line per command
    python benchmarks/startup.py --before FOLDER    also the same commands in another checkout, in turns

Each command runs `--repeat` times; the smallest time counts. Wall-clock time depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
COMMANDS = (
    "-m captioner",
    "train.py --help",
    "train.py model=atention",
    "train.py trainer.max_epoch=3",
    "train.py data=coco data.root=/nowhere",
    "evaluate.py --help",
    "evaluate.py checkpoint=/nowhere",
    "caption.py --help",
    "caption.py nowhere.jpg",
    "-m captioner sample --help",
    "-m captioner runs /nowhere",
)


def processor_seconds(command: str, folder: Path) -> float:
    """User and system time of one command, run in the checkout `folder`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, *command.split()], cwd=folder, env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="another checkout, to compare with")
    parser.add_argument("--repeat", type=int, default=3, help="runs per command (default: 3)")
    arguments = parser.parse_args()
    folders = {"before": arguments.before.resolve()} if arguments.before else {}
    folders["now"] = HERE
    for command in COMMANDS:
        times: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(arguments.repeat):
            for name, folder in folders.items():
                times[name].append(processor_seconds(command, folder))
        print(json.dumps({"command": command, **{f"{name}_s": round(min(t), 2) for name, t in times.items()}}))


if __name__ == "__main__":
    main()
