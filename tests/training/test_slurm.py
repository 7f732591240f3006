"""docs/train.sbatch under a stand-in for Slurm: what is stopped and requeued ends as what was never stopped.

The stand-in sends what Slurm sends: SIGCONT and SIGTERM to all processes of the job, then SIGKILL; and SIGKILL alone,
as after a lost node. It starts the script again where that has asked for it, or where Slurm itself would.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.training.logs import read_records

ROOT = Path(__file__).resolve().parents[2]
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
    "data.num_workers=1",
    "cache.enabled=false",
    "vocabulary.min_count=1",
    "trainer.max_epochs=5",
    "trainer.patience=null",
    "trainer.batch_size=4",
    "trainer.log_every=1",
    "metric.names=[Bleu]",
    "device=cpu",
)
STEPS = 30
PATIENCE = 600.0  # seconds, for a machine that does much else
Job = subprocess.Popen[bytes]


def submit(cluster: Path) -> Job:
    """Start the job, as Slurm does after sbatch and after each requeue."""
    environment = {
        **os.environ,
        "PATH": f"{cluster / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SLURM_JOB_NAME": "tiny",
        "SLURM_JOB_ID": "7",
        "CAPTIONER_CACHE": str(cluster / "cache"),
    }
    with (cluster / "job.log").open("ab") as log:
        return subprocess.Popen(
            ["bash", str(ROOT / "docs" / "train.sbatch"), *SETTINGS],
            cwd=cluster,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with train.py, and with `python` and `scontrol` on its PATH; scontrol notes what it was asked for."""
    shutil.copy(ROOT / "train.py", tmp_path)
    (tmp_path / "bin").mkdir()
    for name, line in (("python", f'exec "{sys.executable}" "$@"'), ("scontrol", f'echo "$@" >> {tmp_path}/requeued')):
        script = tmp_path / "bin" / name
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
    return tmp_path


def when(job: Job, is_now: Callable[[], bool], cluster: Path) -> None:
    """Wait until `is_now`; fails where the job ends before."""
    deadline = time.monotonic() + PATIENCE
    while not is_now():
        assert job.poll() is None, (cluster / "job.log").read_text()
        assert time.monotonic() < deadline, "the moment never came"
        time.sleep(0.02)


def steps(cluster: Path) -> int:
    """Steps that the run has logged."""
    run = cluster / "runs" / "tiny-7"
    return sum(record["kind"] == "train" for record in read_records(run)) if (run / "log.jsonl").exists() else 0


def stop(job: Job) -> None:
    """What Slurm sends at a preemption or a time limit, with all the patience that a test may have."""
    os.killpg(job.pid, signal.SIGCONT)
    os.killpg(job.pid, signal.SIGTERM)
    job.wait(PATIENCE)


def result(cluster: Path) -> dict[str, bytes]:
    """The bytes of the weights of all checkpoints, and of the captions."""
    run = cluster / "runs" / "tiny-7"
    found = [*run.glob("checkpoints/*/model.safetensors"), *run.glob("*captions*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_requeued_training_equals_one_that_was_never_stopped(cluster: Path) -> None:
    whole = submit(cluster)
    assert whole.wait(PATIENCE) == 0, (cluster / "job.log").read_text()
    expected = result(cluster)
    assert len(expected) > 1
    assert steps(cluster) == STEPS
    assert not (cluster / "requeued").exists()
    shutil.rmtree(cluster / "runs")

    job = submit(cluster)  # preempted in the middle of an epoch
    when(job, lambda: steps(cluster) >= 8, cluster)
    stop(job)
    assert job.returncode == 0, (cluster / "job.log").read_text()
    assert (cluster / "requeued").read_text() == "requeue 7\n"

    job = submit(cluster)  # its node is lost
    when(job, lambda: steps(cluster) >= 20, cluster)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait(PATIENCE)

    job = submit(cluster)  # it is left alone
    assert job.wait(PATIENCE) == 0, (cluster / "job.log").read_text()
    assert (cluster / "requeued").read_text() == "requeue 7\n"
    assert steps(cluster) == STEPS
    assert result(cluster) == expected


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_only_what_can_go_on_is_requeued(cluster: Path) -> None:
    """Stopped before there is anything to save, it is requeued; a mistake in the settings is not."""
    (cluster / "train.py").write_text("import sys\nsys.exit(int(open('code').read()))\n")
    for code, requeued in ((143, True), (2, False), (1, False), (0, True)):
        (cluster / "code").write_text(str(code))
        assert submit(cluster).wait(PATIENCE) == code
        assert (cluster / "requeued").exists() == requeued
        (cluster / "requeued").unlink(missing_ok=True)
    (cluster / "runs" / "tiny-7").mkdir(parents=True)
    (cluster / "runs" / "tiny-7" / "metrics.json").write_text("{}")
    assert submit(cluster).wait(PATIENCE) == 0
    assert not (cluster / "requeued").exists()
