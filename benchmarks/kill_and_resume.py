"""Kill a real training at random moments, resume it, and compare with one that was left alone.

    python benchmarks/kill_and_resume.py [--kills 30] [--seed 0]

Each trial is a `python train.py …` in a process of its own that gets SIGKILL, and a `python train.py resume=…` that
runs to the end. A third of the kills come at a random time, a third while a checkpoint is being written (its temporary
folder has just appeared), a third while the log is (it has just grown). Equal means: the weights of the latest and the
best checkpoint and the optimizer's state bit by bit, captions, metrics, and every record of the log exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measure import report
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 4
SETTINGS = (
    "model=attention",
    "model.embedding_dim=32",
    "model.hidden_dim=32",
    "model.attention_dim=16",
    "encoder.image_size=64",
    "data.train_size=96",
    "data.val_size=16",
    "data.test_size=1",
    "data.num_workers=0",
    "vocabulary.min_count=1",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.batch_size=8",
    "trainer.log_every=1",
    "trainer.keep_last=2",
    "metric.names=[Bleu,CIDEr]",
    "device=cpu",
)
CLOCKS = ("seconds", "words_per_second")  # what a record says of the clock


def start(scratch: Path, *settings: str) -> subprocess.Popen[str]:
    """`python train.py …` in the folder `scratch`, where its caches are, too."""
    environment = {**os.environ, "CAPTIONER_CACHE": str(scratch / "cache"), "PYTHONPATH": str(ROOT)}
    with (scratch / "said.txt").open("a") as said:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *settings], cwd=scratch, env=environment, stdout=said, stderr=said
        )


def finish(scratch: Path, *settings: str) -> None:
    """The same, to its end."""
    if start(scratch, *settings).wait() != 0:
        raise SystemExit(f"train.py {' '.join(settings)} failed:\n{(scratch / 'said.txt').read_text()}")


def left_behind(run: Path) -> dict[str, Any]:
    """All that a run leaves, without what a clock decides."""
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["run"]["words_per_second"]
    index = json.loads((run / "checkpoints/index.json").read_text())
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = {which: run / "checkpoints" / index[which] for which in ("latest", "best")}
    weights = {
        f"{which} {name}": tensor
        for which, folder in kept.items()
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    state = torch.load(kept["latest"] / "trainer.pt", weights_only=True)
    moments = {
        f"{number} {name}": tensor
        for number, own in state["optimizer"]["state"].items()
        for name, tensor in own.items()
    }
    return {
        "captions": (run / "captions_val.json").read_text(),
        "metrics": metrics,
        "records": [{key: value for key, value in record.items() if key not in CLOCKS} for record in records],
        "checkpoints": [index[which].split(".")[0] for which in ("latest", "best")],
        "tensors": {**weights, **moments, "random state": state["random_state"]},
    }


def differences(whole: dict[str, Any], resumed: dict[str, Any]) -> list[str]:
    """What is not the same, by name."""
    ours, theirs = whole["tensors"], resumed["tensors"]
    unequal = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
    return unequal + [key for key in whole if key != "tensors" and whole[key] != resumed[key]]


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def moment_of_kill(number: int, dice: random.Random, whole: Path, run: Path, seconds: float) -> Callable[[], bool]:
    """A function that is asked again and again, and says when; `seconds`: how long the whole run trains."""
    if number % 3 == 0:
        chosen, begun = dice.uniform(0, 0.95 * seconds), list[float]()

        def time_has_come() -> bool:
            if not begun and (run / "config.yaml").exists():
                begun.append(time.perf_counter())
            return bool(begun) and time.perf_counter() - begun[0] >= chosen

        return time_has_come
    if number % 3 == 1:
        wanted, late, seen = dice.randint(1, EPOCHS), dice.choice([0, 0.005, 0.02, 0.05]), set[str]()

        def writes_checkpoint() -> bool:
            seen.update(path.name for path in (run / "checkpoints").glob(".step-*"))
            if len(seen) < wanted:
                return False
            time.sleep(late)
            return True

        return writes_checkpoint
    length = dice.randint(1, size(whole / "log.jsonl") - 1)
    return lambda: size(run / "log.jsonl") >= length


def killed(scratch: Path, run: Path, is_time: Callable[[], bool]) -> bool:
    """Start a run and kill it when it is time; False where it was over before."""
    process = start(scratch, *SETTINGS, f"hydra.run.dir={run.name}")
    while process.poll() is None:
        if is_time():
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.0005)
    return False


def where(run: Path) -> list[str]:
    """What the kill interrupted, as far as it left traces."""
    found = ["inside a write"] if any(run.rglob(".*.tmp")) else []
    if not (run / "checkpoints/index.json").exists():
        found.append("before the first checkpoint")
    records = (run / "log.jsonl").read_text() if (run / "log.jsonl").exists() else ""
    return found if '"epoch": 2' in records else [*found, "inside the first epoch"]


def trials(kills: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Kill and resume so many times; returns the figures."""
    dice, whole = random.Random(seed), scratch / "whole"
    finish(scratch, *SETTINGS, f"hydra.run.dir={whole.name}")
    seconds = (whole / "metrics.json").stat().st_mtime - (whole / "config.yaml").stat().st_mtime
    expected, traces, unequal = left_behind(whole), Counter[str](), {}
    for number in range(kills):
        for attempt in range(9):
            run = scratch / f"run-{number}-{attempt}"
            if killed(scratch, run, moment_of_kill(number, dice, whole, run, seconds)):
                break
        else:
            raise SystemExit("The run was always over before it could be killed: make it longer.")
        traces.update(where(run))
        finish(scratch, f"resume={run.name}")
        if found := differences(expected, left_behind(run)):
            unequal[run.name] = found
        print(f"{run.name}: {'differs in ' + ', '.join(found[:5]) if found else 'equal'}", file=sys.stderr)
    return {"kills": kills, "equal": kills - len(unequal), "steps": len(expected["records"]) - EPOCHS, **traces} | (
        {"unequal": unequal} if unequal else {}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        figures = trials(arguments.kills, arguments.seed, Path(scratch))
    report("kill_and_resume", figures)
    sys.exit(0 if figures["equal"] == figures["kills"] else 1)


if __name__ == "__main__":
    main()
