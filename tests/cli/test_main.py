"""How training ends in a real process: exit code, last message, and what is left on a real disk."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.checkpoint.checkpoint import load_checkpoint
from captioner.cli.main import run_command
from captioner.config import FolderConfig
from tests.cli.conftest import SMALL

COMMAND = (sys.executable, "-m", "captioner", "train")
TRAIN = (*COMMAND, *SMALL, "model=gru", "trainer.batch_size=4", "trainer.patience=null")
LONG = (*TRAIN, "trainer.max_epochs=100000", "hydra.run.dir=run")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def wait_for_epochs(process: subprocess.Popen[str], count: int) -> str:
    """The output of the process until `count` epochs are validated."""
    assert process.stderr is not None
    output = ""
    for line in process.stderr:
        output += line
        count -= line.startswith("epoch")
        if count == 0:
            return output
    raise AssertionError(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "code", "words"),
    [
        ([signal.SIGINT], 130, "Saved. Resume with: python train.py resume=run"),
        ([signal.SIGTERM], 0, "Saved. Resume with: python train.py resume=run"),
        ([signal.SIGINT, signal.SIGINT], 130, "python train.py resume=run"),
    ],
    ids=["Ctrl-C", "SIGTERM", "Ctrl-C twice"],
)
def test_signals(tmp_path: Path, tiny: FolderConfig, signals: list[signal.Signals], code: int, words: str) -> None:
    process = start(tmp_path, *LONG)
    wait_for_epochs(process, 2)
    for number in signals:
        process.send_signal(number)
    _, rest = process.communicate(timeout=300)
    assert (process.returncode, words in rest, "Traceback" in rest) == (code, True, False), rest
    load_checkpoint(tmp_path / "run", which="latest")


@pytest.mark.slow
def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path: Path, tiny: FolderConfig) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=2500k tmpfs {disk}"  # room for one checkpoint of 1.4 MB
    own_mounts = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own_mounts, mount], check=False).returncode:
        pytest.skip("no disk of our own can be mounted here")
    train = shlex.join([*TRAIN, "trainer.max_epochs=9", "hydra.run.dir=disk/run"])
    resume = shlex.join([*COMMAND, "resume=disk/run", "trainer.max_epochs=3"])
    look = f"echo $? $(ls -A {disk}/run/checkpoints)"
    script = f"{mount}; {train}; {look}; mount -o remount,ro {disk}; {resume}; {look}"
    done = subprocess.run(
        [*own_mounts, script], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == 2 * ["2 index.json step-00000004"], done
    assert (
        "No space left on device). Free some space on its disk. The checkpoint step-00000004 is intact" in done.stderr
    )
    assert "python train.py resume=disk/run" in done.stderr
    assert "disk/run/owner.lock could not be written (Read-only file system)" in done.stderr
    assert "Traceback" not in done.stderr


def test_out_of_memory_is_explained(capfd: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    assert run_command(command) == 2
    assert "error: Memory ran out. Caption fewer images at a time" in capfd.readouterr().err


@pytest.mark.parametrize("lines", [1, 10_000], ids=["at the end", "in the middle"])
def test_a_reader_that_has_ended_is_no_error(
    lines: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as output:  # closed here: what is left must not fail again
        monkeypatch.setattr(sys, "stdout", output)
        assert run_command(lambda: sys.stdout.write("{}\n" * lines) * 0) == 128 + signal.SIGPIPE
        monkeypatch.undo()
    assert capfd.readouterr() == ("", "")


def test_another_broken_pipe_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    assert run_command(fail) == 2
    assert capfd.readouterr().err == "error: Broken pipe.\n"
