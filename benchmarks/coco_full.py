"""The whole path on a data set of COCO's size: what each command takes, and whether interrupted ones end the same.

    python benchmarks/coco_shape.py DATA … --pixels 64      makes the data set: 118,287 + 5,000 small, distinct images
    python benchmarks/coco_full.py DATA WORK                runs the stages below; resumes where it was stopped
    python benchmarks/coco_full.py DATA WORK --only check karpathy

check     `captioner data check`
cache     `captioner cache`, undisturbed
killed    the same into another cache: kill -9 after a quarter, then two processes at once; the rows must be equal
karpathy  Karpathy's split on the same cache: nothing is left to compute
train     one epoch (or --steps of its 463 steps) with two processes, and the evaluation of 5,000 images
resumed   the same training, stopped by SIGTERM half way and resumed; the weights and captions must be the same bytes
evaluate  `evaluate.py` on the 5,000 images

For each: wall-clock and processor seconds, the largest memory of one process (its own pages, and with files), how many
processes, and bytes on disk. One JSON line a stage goes to WORK/full.jsonl, and a table of all is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from process_memory import memory_of

ROOT = Path(__file__).resolve().parents[1]
ENCODER = ["encoder=torchvision", "encoder.name=squeezenet1_1", "encoder.weights=null", "encoder.image_size=64"]
COMMON = ["data=coco", "data.num_workers=0", "device=cpu"]
TRAINING = [
    "model=attention",
    "model.embedding_dim=64",
    "model.hidden_dim=64",
    "model.attention_dim=64",
    "decode=greedy",
    "trainer.devices=2",
    "trainer.max_epochs=1",
    "trainer.batch_size=256",
    "trainer.captions_per_image=1",
    "trainer.log_every=5",
]
POLL = 0.2  # seconds
WAIT = 7200.0  # seconds for a state to be reached
KILLED_AFTER = 0.25  # of the images
STEPS = 463  # of an epoch
Row = dict[str, Any]


class Job:
    """A command that runs, and what it and the processes that it has started use."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.started, self.log = time.monotonic(), log
        self.before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.own: dict[int, int] = {}  # process → most bytes of its own pages
        self.all: dict[int, int] = {}  # process → most bytes, with files
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        with log.open("w") as output:
            command = [sys.executable, *arguments]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def wait_for(self, reached: Callable[[], bool]) -> None:
        """Watch until `reached`; SystemExit if the command ends before, or never comes there."""
        while not reached():
            if self.process.poll() is not None or time.monotonic() - self.started > WAIT:
                raise SystemExit(f"It ended with {self.process.poll()}; see {self.log}.")
            self.watch()
            time.sleep(POLL)

    def watch(self) -> None:
        """Note the memory of all processes of the command."""
        for pid in _with_descendants(self.process.pid):
            memory = memory_of(pid)
            for name, most in (("RssAnon", self.own), ("VmHWM", self.all)):
                if name in memory:
                    most[pid] = max(most.get(pid, 0), memory[name])

    def end(self, expected: int = 0) -> Row:
        """Wait for the end; what it took. SystemExit for another exit code."""
        while self.process.poll() is None:
            self.watch()
            time.sleep(POLL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if self.process.returncode != expected:
            raise SystemExit(f"It ended with {self.process.returncode}; see {self.log}.")
        processor = sum(getattr(after, name) - getattr(self.before, name) for name in ("ru_utime", "ru_stime"))
        working = [size for size in self.own.values() if size > 100_000_000]  # without resource trackers and the like
        return {
            "wall_s": round(time.monotonic() - self.started),
            "processor_s": round(processor),
            "processes": len(working),
            "own_MB": max(self.own.values()) // 1_000_000,
            "peak_MB": max(self.all.values()) // 1_000_000,
        }


def _with_descendants(process: int) -> list[int]:
    """A process and those that it has started, directly or not (proc(5): the second field after the name in `stat`)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended
    found = [process]
    for known in found:  # grows while it is read
        found += [pid for pid, parent in parents.items() if parent == known]
    return found


def disk_bytes(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def cached_rows(cache: Path) -> dict[str, int]:
    """Key → checksum of its features, of all shards of a feature cache; SystemExit for a key that is there twice."""
    found: dict[str, int] = {}
    for listing_file in sorted(cache.glob("features/*/shard-*.json")):
        listing = json.loads(listing_file.read_text())
        rows = np.fromfile(listing_file.with_suffix(".f16"), np.float16).reshape(listing["shape"])
        for key, row in zip(listing["keys"], rows, strict=True):
            if key in found:
                raise SystemExit(f"{key} is in {cache} twice.")
            found[key] = zlib.crc32(row.tobytes())
    return found


class Stages:
    """The stages, on the data set `data`, in the folder `work`."""

    def __init__(self, data: Path, work: Path, steps: int) -> None:
        self.work, self.steps = work, steps
        self.data = [*COMMON, f"data.root={data}"]
        self.karpathy_file = data / "dataset_coco.json"

    def job(self, name: str, *arguments: str) -> Job:
        """A command that logs into WORK/NAME.txt."""
        return Job(list(arguments), self.work / f"{name}.txt")

    def cache_job(self, name: str, cache: str, *more: str) -> Job:
        """`captioner cache`."""
        settings = [*self.data, *ENCODER, f"cache.directory={self.work / cache}", *more]
        return self.job(name, "-m", "captioner", "cache", *settings)

    def train_job(self, name: str, *settings: str) -> Job:
        """`train.py`."""
        return self.job(name, "train.py", *settings)

    def new_run(self, name: str) -> list[str]:
        """The settings of the training in WORK/NAME."""
        folders = [f"cache.directory={self.work / 'cache'}", f"hydra.run.dir={self.work / name}"]
        return [*self.data, *ENCODER, *TRAINING, *folders, f"trainer.max_steps={self.steps}"]

    def fresh(self, name: str) -> Path:
        """WORK/NAME without what an unfinished stage has left there."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name

    def check(self) -> Row:
        return self.job("check", "-m", "captioner", "data", "check", *self.data).end()

    def cache(self) -> Row:
        row = self.cache_job("cache", "cache").end()
        rows = cached_rows(self.work / "cache")
        return {**row, "images": len(rows), "disk_MB": disk_bytes(self.work / "cache") // 1_000_000}

    def killed(self) -> Row:
        expected = cached_rows(self.work / "cache")
        folder = self.fresh("cache_killed")
        first = self.cache_job("killed_first", "cache_killed")
        shards = int(KILLED_AFTER * len(list(self.work.glob("cache/features/*/shard-*.json"))))
        first.wait_for(lambda: len(list(folder.glob("features/*/shard-*.json"))) >= shards)
        os.killpg(first.process.pid, signal.SIGKILL)
        first.end(expected=-signal.SIGKILL)
        jobs = [self.cache_job(f"killed_{name}", "cache_killed") for name in ("second", "third")]
        while any(job.process.poll() is None for job in jobs):
            for job in jobs:
                job.watch()
            time.sleep(POLL)
        one, two = (job.end() for job in jobs)
        left = [path.name for path in folder.glob("features/*/*") if path.name.endswith((".claim", ".tmp"))]
        return {
            **{name: max(one[name], two[name]) for name in one},
            "processes": 2,
            "equal": cached_rows(folder) == expected,
            "left_over": left,
        }

    def karpathy(self) -> Row:
        row = self.cache_job("karpathy", "cache", f"data.karpathy={self.karpathy_file}").end()
        splits = re.findall(
            r"^ +(train|val|test) +([\d,]+) images[^,]*, +([\d,]+) to compute", self._log("karpathy"), re.M
        )
        return {**row, "splits": {name: f"{images} images, {missing} to compute" for name, images, missing in splits}}

    def train(self) -> Row:
        self.fresh("run")
        row = self.train_job("train", *self.new_run("run")).end()
        return {**row, "steps": self._steps("run"), "disk_MB": disk_bytes(self.work / "run") // 1_000_000}

    def resumed(self) -> Row:
        self.fresh("run_resumed")
        job = self.train_job("resumed_first", *self.new_run("run_resumed"))
        job.wait_for(lambda: self._steps("run_resumed") >= self.steps // 2)
        os.kill(job.process.pid, signal.SIGTERM)
        job.end()
        stopped = self._steps("run_resumed")
        row = self.train_job("resumed_second", f"resume={self.work / 'run_resumed'}").end()
        return {**row, "stopped_at": stopped, "equal": self._result("run") == self._result("run_resumed")}

    def evaluate(self) -> Row:
        out = self.work / f"evaluation_{time.time_ns()}"
        settings = [f"checkpoint={self.work / 'run'}", f"cache.directory={self.work / 'cache'}", "device=cpu"]
        row = self.job("evaluate", "evaluate.py", *settings, f"hydra.run.dir={out}").end()
        return {**row, "images": len(json.loads((out / "captions_val.json").read_text()))}

    def _log(self, name: str) -> str:
        return (self.work / f"{name}.txt").read_text()

    def _steps(self, run: str) -> int:
        """The last step in a run's log."""
        path = self.work / run / "log.jsonl"
        if not path.is_file():
            return 0
        records = (json.loads(line) for line in path.read_text().splitlines() if line.endswith("}"))
        return max((record.get("step", 0) for record in records if record.get("kind") == "train"), default=0)

    def _result(self, run: str) -> dict[str, bytes]:
        """The bytes of the last weights and of the captions."""
        found = [*self.work.glob(f"{run}/checkpoints/*/model.safetensors"), *self.work.glob(f"{run}/*captions*")]
        assert found, f"{run} has no result"
        return {str(path.relative_to(self.work / run)): path.read_bytes() for path in found}


STAGES = ("check", "cache", "killed", "karpathy", "train", "resumed", "evaluate")
COLUMNS = ("wall_s", "processor_s", "processes", "own_MB", "peak_MB", "disk_MB")


def table(rows: dict[str, Row]) -> str:
    """The rows as Markdown; what is not in a column comes after them."""
    lines = [f"| stage | {' | '.join(COLUMNS)} | |", "|---" * (len(COLUMNS) + 2) + "|"]
    for stage, row in rows.items():
        cells = [f"{row[name]:,}" if name in row else "" for name in COLUMNS]
        rest = ", ".join(f"{name}: {value}" for name, value in row.items() if name not in (*COLUMNS, "stage"))
        lines.append(f"| {stage} | {' | '.join(cells)} | {rest} |")
    return "\n".join(lines)


def main() -> None:
    """Run the stages that are not done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA", help="the data set, made by coco_shape.py --pixels 64")
    parser.add_argument("work", type=Path, metavar="WORK", help="caches, runs, logs and results; 4 GB")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE", help=", ".join(STAGES))
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of the trainings (default: {STEPS}, an epoch)")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    results = work / "full.jsonl"
    lines = results.read_text().splitlines() if results.is_file() else []
    rows = {row["stage"]: row for row in map(json.loads, lines)}
    stages = Stages(arguments.data.resolve(), work, arguments.steps)
    for stage in STAGES:
        if stage in arguments.only and stage not in rows:
            rows[stage] = {"stage": stage, **getattr(stages, stage)()}
            with results.open("a") as file:
                file.write(json.dumps(rows[stage]) + "\n")
            sys.stdout.write(json.dumps(rows[stage]) + "\n")
            sys.stdout.flush()
    sys.stdout.write(table(rows) + "\n")
    if not all(row.get("equal", True) for row in rows.values()):
        sys.exit("An interrupted command did not end like the undisturbed one.")


if __name__ == "__main__":
    main()
