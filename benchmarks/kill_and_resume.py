"""Kill a real training at random moments, resume it, and compare with an uninterrupted one.

    python benchmarks/kill_and_resume.py [--kills 30] [--seed 0]

Each trial is a `python train.py …` that gets SIGKILL, and a `python train.py resume=…` that runs to the end. A third of
the kills come at a random time, a third while a checkpoint is being written (its temporary folder has just appeared), a
third while the log is being written (it has just grown). Equal means: the weights of the latest and the best checkpoint
and the optimizer's state bit by bit, captions, metrics, and every record of the log exactly once.
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
TIMES = ("seconds", "words_per_second")  # fields of a log record that depend on the clock


def start(scratch: Path, *settings: str) -> subprocess.Popen[str]:
    """Start `python train.py …` in the folder `scratch`, which also has its caches."""
    environment = {**os.environ, "CAPTIONER_CACHE": str(scratch / "cache"), "PYTHONPATH": str(ROOT)}
    with (scratch / "output.txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *settings],
            cwd=scratch,
            env=environment,
            stdout=output,
            stderr=output,
        )


def finish(scratch: Path, *settings: str) -> None:
    """Run `python train.py …` to its end; SystemExit where it fails."""
    if start(scratch, *settings).wait() != 0:
        raise SystemExit(f"train.py {' '.join(settings)} failed:\n{(scratch / 'output.txt').read_text()}")


def results_of(run: Path) -> dict[str, Any]:
    """Everything that a run writes, without what depends on the clock."""
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
        for number, of_parameter in state["optimizer"]["state"].items()
        for name, tensor in of_parameter.items()
    }
    return {
        "captions": (run / "captions_val.json").read_text(),
        "metrics": metrics,
        "records": [{key: value for key, value in record.items() if key not in TIMES} for record in records],
        "checkpoints": [index[which].split(".")[0] for which in ("latest", "best")],
        "tensors": {**weights, **moments, "random state": state["random_state"]},
    }


def differences(whole: dict[str, Any], resumed: dict[str, Any]) -> list[str]:
    """Names of what differs."""
    ours, theirs = whole["tensors"], resumed["tensors"]
    unequal = [name for name in ours if name not in theirs or not torch.equal(ours[name], theirs[name])]
    return unequal + [key for key in whole if key != "tensors" and whole[key] != resumed[key]]


def size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def kill_condition(number: int, generator: random.Random, whole: Path, run: Path, seconds: float) -> Callable[[], bool]:
    """A function that is polled until it returns True; seconds: duration of the uninterrupted run."""
    if number % 3 == 0:
        delay, started = generator.uniform(0, 0.95 * seconds), list[float]()

        def delay_is_over() -> bool:
            if not started and (run / "config.yaml").exists():
                started.append(time.perf_counter())
            return bool(started) and time.perf_counter() - started[0] >= delay

        return delay_is_over
    if number % 3 == 1:
        wanted, delay, seen = generator.randint(1, EPOCHS), generator.choice([0, 0.005, 0.02, 0.05]), set[str]()

        def writes_checkpoint() -> bool:
            seen.update(path.name for path in (run / "checkpoints").glob(".step-*"))
            if len(seen) < wanted:
                return False
            time.sleep(delay)
            return True

        return writes_checkpoint
    length = generator.randint(1, size(whole / "log.jsonl") - 1)
    return lambda: size(run / "log.jsonl") >= length


def killed(scratch: Path, run: Path, condition: Callable[[], bool]) -> bool:
    """Start a run and kill it when the condition holds; False where it ended before."""
    process = start(scratch, *SETTINGS, f"hydra.run.dir={run.name}")
    while process.poll() is None:
        if condition():
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.0005)
    return False


def interrupted(run: Path) -> list[str]:
    """What the kill interrupted, as far as the folder shows it."""
    found = ["while a file was being written"] if any(run.rglob(".*.tmp")) else []
    if not (run / "checkpoints/index.json").exists():
        found.append("before the first checkpoint")
    records = (run / "log.jsonl").read_text() if (run / "log.jsonl").exists() else ""
    return found if '"epoch": 2' in records else [*found, "inside the first epoch"]


def trials(kills: int, seed: int, scratch: Path) -> dict[str, Any]:
    """Kill and resume `kills` times; returns the counts."""
    generator, whole = random.Random(seed), scratch / "whole"
    finish(scratch, *SETTINGS, f"hydra.run.dir={whole.name}")
    seconds = (whole / "metrics.json").stat().st_mtime - (whole / "config.yaml").stat().st_mtime
    expected, traces, unequal = results_of(whole), Counter[str](), {}
    for number in range(kills):
        for attempt in range(9):
            run = scratch / f"run-{number}-{attempt}"
            if killed(scratch, run, kill_condition(number, generator, whole, run, seconds)):
                break
        else:
            raise SystemExit("The run always ended before it could be killed: make it longer.")
        traces.update(interrupted(run))
        finish(scratch, f"resume={run.name}")
        if found := differences(expected, results_of(run)):
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
        results = trials(arguments.kills, arguments.seed, Path(scratch))
    report("kill_and_resume", results)
    sys.exit(0 if results["equal"] == results["kills"] else 1)


if __name__ == "__main__":
    main()
