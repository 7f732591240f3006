"""Send a signal to a real training at a chosen moment, to one of its processes or to all, and say what came of it.

    python benchmarks/signals_table.py [--signal TERM] [--moments start training …] [--targets process group …]

Each cell is a `python train.py …` of its own. A moment is recognized by what the training has written, so nothing is
timed. The table is that of docs/runs.md. The script ends with 1 where a cell breaks a rule: exit code 0 without a
finished run or a checkpoint and a message that says so; a traceback; a process that is left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "model=attention",
    "model.embedding_dim=16",
    "model.hidden_dim=16",
    "model.attention_dim=8",
    "encoder=torchvision",
    "encoder.name=squeezenet1_1",
    "encoder.weights=null",
    "encoder.image_size=64",
    "data.train_size=96",
    "data.val_size=96",
    "data.test_size=1",
    "vocabulary.min_count=1",
    "trainer.max_epochs=30",
    "trainer.patience=null",
    "trainer.batch_size=4",
    "trainer.log_every=1",
    "metric.names=[Bleu,CIDEr]",
    "device=cpu",
    "hydra.run.dir=run",
)
SCORING = ("trainer.max_epochs=1", "decode.beam_width=20", "data.val_size=300")  # the last evaluation takes a while
STEPS_PER_EPOCH = 24
WAIT = 300.0  # seconds for a moment, and for the end


def records(run: Path, kind: str) -> list[dict[str, object]]:
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # half written
            continue
    return [record for record in found if record["kind"] == kind]


def has_handler(process: int) -> bool:
    """Whether a process handles SIGTERM by now: before, Python itself has not started."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def moments(scratch: Path, process: int) -> dict[str, Callable[[], bool]]:
    """Moment → whether it is now."""
    run, cache = scratch / "run", scratch / "cache"
    return {
        "start": lambda: has_handler(process),
        "cache filling": lambda: any(cache.glob("features/*/shard-*.claim")),
        "training": lambda: len(records(run, "train")) > 2,
        "saving": lambda: any((run / "checkpoints").glob(".step-*.tmp")),
        "validation": lambda: len(records(run, "train")) % STEPS_PER_EPOCH == 0 and bool(records(run, "train")),
        "scoring": lambda: bool(records(run, "validation")) and (run / "checkpoints" / "index.json").exists(),
    }


def children(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return sorted(int(line) for line in found.stdout.split())


def victim(target: str, process: subprocess.Popen[str]) -> int | None:
    """The process to signal; None for the whole group."""
    if target in ("process", "launcher"):
        return process.pid
    if target in ("worker", "rank"):
        inner = children(process.pid)
        return inner[-1] if inner else 0
    return None


def start(scratch: Path, moment: str, target: str) -> subprocess.Popen[str]:
    """Start a training in which there are such a moment and such a target."""
    options = list(SETTINGS)
    if moment in ("training", "saving", "validation") and target in ("worker", "group"):
        options += ["cache.enabled=false", "data.num_workers=2"]
    if moment == "scoring":
        options += SCORING
    if target in ("launcher", "rank"):
        options += ["trainer.devices=2"]
    environment = {**os.environ, "CAPTIONER_CACHE": str(scratch / "cache"), "PYTHONPATH": str(ROOT)}
    with (scratch / "output.txt").open("w") as output:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *options],
            cwd=scratch,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
        )


def cell(scratch: Path, moment: str, target: str, number: signal.Signals) -> tuple[list[str], list[str]]:
    """One row of the table: exit code, what is left, message; and the rules that it breaks."""
    process = start(scratch, moment, target)
    is_now = moments(scratch, process.pid)[moment]
    deadline = time.monotonic() + WAIT
    while not is_now() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    while (chosen := victim(target, process)) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    if process.poll() is None:
        os.killpg(process.pid, number) if chosen is None else os.kill(chosen, number)
    try:
        if target == "worker":
            return goes_on(scratch, process)
        return outcome(scratch, process.wait(WAIT))
    except subprocess.TimeoutExpired:
        return ["none", "?", ""], ["it did not end"]
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def goes_on(scratch: Path, process: subprocess.Popen[str]) -> tuple[list[str], list[str]]:
    """A row for a training that the signal does not end: later steps are the proof."""
    seen = len(records(scratch / "run", "train"))
    while len(records(scratch / "run", "train")) < seen + 3 and process.poll() is None:
        time.sleep(0.01)
    return (["–", "it goes on", ""], []) if process.poll() is None else (["?", "?", ""], ["the training ended"])


def outcome(scratch: Path, code: int) -> tuple[list[str], list[str]]:
    """The row of a training that has ended."""
    text = (scratch / "output.txt").read_text()
    index = scratch / "run" / "checkpoints" / "index.json"
    latest = json.loads(index.read_text())["latest"] if index.exists() else None
    is_finished = (scratch / "run" / "metrics.json").exists()
    words = ("Stopping after", "Saved. Resume", "Not saved", "Stopped", "error:")
    said = [line.strip() for line in text.splitlines() if line.strip().startswith(words)]
    faults = []
    if code == 0 and not is_finished and (latest is None or "Saved. Resume" not in text):
        faults.append("exit code 0 and nothing saved")
    if "Traceback" in text:
        faults.append("a traceback")
    if code not in (0, 2) and not said:
        faults.append("no message")
    left = "the finished run" if is_finished else f"checkpoint {latest}" if latest else "nothing"
    return [str(code), left, " / ".join(said).replace(str(scratch), "…")], faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signal", default="TERM", choices=("TERM", "INT"))
    parser.add_argument(
        "--moments", nargs="+", default=["start", "cache filling", "training", "saving", "validation", "scoring"]
    )
    parser.add_argument("--targets", nargs="+", default=["process", "group", "worker", "launcher", "rank"])
    arguments = parser.parse_args()
    failed = False
    print("| moment | target | exit code | what is left | message |\n|---|---|---|---|---|", flush=True)
    for target in arguments.targets:
        for moment in arguments.moments:
            if target == "worker" and moment != "training":
                continue  # there are none, or they end at once
            with tempfile.TemporaryDirectory() as scratch:
                row, faults = cell(Path(scratch), moment, target, signal.Signals[f"SIG{arguments.signal}"])
                failed = failed or bool(faults)
                print(f"| {' | '.join([moment, target, *row])} |{f'  **{faults}**' if faults else ''}", flush=True)
                if faults:
                    sys.stderr.write((Path(scratch) / "output.txt").read_text()[-3000:])
    sys.exit(failed)


if __name__ == "__main__":
    main()
