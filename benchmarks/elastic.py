"""Kill a rank of a torchrun job at random moments; torchrun restarts it, and it must end as if nothing had happened.

    python benchmarks/elastic.py [--kills 20] [--seed 0]

Two processes train a tiny model with dropout, once in peace and once under kills (SIGKILL to one of the two, after a
random step and a random part of a second), by `torchrun --max-restarts`. Prints one JSON object; ends with 1 unless
there were as many kills and the weights of the last checkpoint and the captions are the same bytes.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (
    "model=lstm",
    "model.embedding_dim=8",
    "model.hidden_dim=8",
    "encoder=torchvision",
    "encoder.name=squeezenet1_1",
    "encoder.weights=null",
    "encoder.image_size=64",
    "data.train_size=24",
    "data.val_size=4",
    "data.test_size=1",
    "vocabulary.min_count=1",
    "trainer.patience=null",
    "trainer.batch_size=4",
    "trainer.log_every=1",
    "metric.names=[Bleu]",
    "device=cpu",
)
STEPS_PER_EPOCH = 6
STEPS_PER_KILL = 9
WAIT = 1800.0  # seconds for a step


def steps(run: Path) -> int:
    """Steps in the log."""
    path = run / "log.jsonl"
    return path.read_text().count('"kind": "train"') if path.is_file() else 0


def ranks(process: int) -> list[int]:
    """The processes that torchrun has started."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def train(scratch: Path, name: str, epochs: int, restarts: int) -> subprocess.Popen[bytes]:
    """Start torchrun with two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = [*SETTINGS, f"trainer.max_epochs={epochs}", f"hydra.run.dir={name}"]
    environment = {**os.environ, "CAPTIONER_CACHE": str(scratch / "cache"), "PYTHONPATH": str(ROOT)}
    with (scratch / f"{name}.txt").open("w") as output:
        return subprocess.Popen(
            [*command, f"--max-restarts={restarts}", str(ROOT / "train.py"), *options],
            cwd=scratch,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=output,
        )


def result(run: Path) -> dict[str, bytes]:
    """The bytes of the weights and of the captions."""
    found = [*run.glob("checkpoints/*/model.safetensors"), *run.glob("*captions*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


def kill_at_random(scratch: Path, job: subprocess.Popen[bytes], kills: int, choose: random.Random) -> int:
    """Kill a rank `kills` times; returns how often that was done before the job ended."""
    done = 0
    for number in range(kills):
        after = number * STEPS_PER_KILL + choose.randrange(STEPS_PER_KILL)
        deadline = time.monotonic() + WAIT
        while (steps(scratch / "killed") < after or len(ranks(job.pid)) < 2) and job.poll() is None:
            assert time.monotonic() < deadline, f"step {after} never came"
            time.sleep(0.02)
        time.sleep(choose.random())
        while not (running := ranks(job.pid)) and job.poll() is None:  # between two lives
            time.sleep(0.02)
        if job.poll() is None:
            victim = choose.choice(running)
            os.kill(victim, signal.SIGKILL)  # torchrun has not waited for it, so it is there
            done += 1
            while victim in ranks(job.pid) and job.poll() is None:  # so that none is killed twice
                time.sleep(0.02)
    return done


def main() -> None:
    """Train twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    epochs = 2 * -(-(arguments.kills + 1) * STEPS_PER_KILL // STEPS_PER_EPOCH)  # a job does not end before the last
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        peace = train(scratch, "peace", epochs, 0).wait()
        job = train(scratch, "killed", epochs, 2 * arguments.kills)
        killed = kill_at_random(scratch, job, arguments.kills, random.Random(arguments.seed))
        code = job.wait()
        expected, found = result(scratch / "peace"), result(scratch / "killed")
        equal = bool(expected) and expected == found
        print(json.dumps({"kills": killed, "exit_codes": [peace, code], "files": len(expected), "equal": equal}))
        if not equal or killed < arguments.kills:
            sys.stderr.write((scratch / "killed.txt").read_text()[-4000:])
    sys.exit(not equal or killed < arguments.kills)


if __name__ == "__main__":
    main()
