"""Processes that are started together end together: with small programs, and with real training."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from captioner.cli.train import main
from captioner.config import FolderConfig
from captioner.distributed import launch as launching
from captioner.distributed.launch import LOST_RANK, JobFailedError, launch
from captioner.training.logs import read_records
from tests.cli.conftest import SMALL, Command

ROOT = Path(__file__).resolve().parents[2]

OWN_RANK = "rank = int(os.environ['RANK'])\n"
PATIENCE = 300  # seconds for what takes one: the machine may be slow, and run many tests at once
STAY = "time.sleep(1000)"
NOTE = "open(f'{sys.argv[2]}/{rank}.pid', 'w').write(str(os.getpid()))"  # what tests wait for
COUNT_SIGNALS = """
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(number))
open(f'{sys.argv[2]}/{rank}.pid', 'w').write(str(os.getpid()))
while not got: time.sleep(0.01)
time.sleep(0.2)
sys.exit(130 if got == [signal.SIGINT] else 0 if got == [signal.SIGTERM] else 9)
"""


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """program(code): every process runs this code instead of captioner; `rank` is defined in it."""

    def run(code: str) -> None:
        start = "import os, signal, sys, time\n"
        monkeypatch.setattr(launching, "program", lambda: [sys.executable, "-c", start + OWN_RANK + code])

    return run


def pids(folder: Path, count: int) -> list[int]:
    """The process ids, once all processes have written theirs."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = [folder / f"{rank}.pid" for rank in range(count)]
        if all(path.exists() and path.read_text() for path in found):
            return [int(path.read_text()) for path in found]
        time.sleep(0.01)
    raise AssertionError("the processes did not start")


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def meanwhile(work: Callable[[], None]) -> None:
    """Do `work` in another thread, for launching blocks and must be in the main one."""
    threading.Thread(target=work, daemon=True).start()


def test_every_process_knows_its_place(program: Callable[[str], None], tmp_path: Path) -> None:
    program(
        "names = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE', 'OMP_NUM_THREADS', 'MASTER_ADDR')\n"
        "open(f'{sys.argv[2]}/{rank}', 'w').write(' '.join(os.environ[name] for name in names))"
    )
    assert launch("train", [str(tmp_path)], 3) is None
    threads = os.environ.get("OMP_NUM_THREADS") or max(1, len(os.sched_getaffinity(0)) // 3)
    assert [(tmp_path / f"{rank}").read_text() for rank in range(3)] == [
        f"{rank} {rank} 3 3 {threads} 127.0.0.1" for rank in range(3)
    ]


def test_a_killed_process_ends_the_others_and_is_named(
    program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "GRACE", 0.3)
    program(f"{NOTE}\n{STAY}")
    meanwhile(lambda: os.kill(pids(tmp_path, 3)[1], signal.SIGKILL))
    with pytest.raises(JobFailedError, match=r"Process 1 of 3 was killed by SIGKILL .*memory") as failed:
        launch("train", [str(tmp_path)], 3)
    assert failed.value.code == 137
    assert not any(is_alive(pid) for pid in pids(tmp_path, 3))


def test_the_reason_is_the_process_that_failed_by_itself(
    program: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others notice first, and end first."""
    monkeypatch.setattr(launching, "GRACE", PATIENCE)
    others = "all(os.path.exists(f'{sys.argv[2]}/{other}.pid') for other in (0, 1))"
    program(
        f"if rank != 2:\n  {NOTE}\n  sys.exit({LOST_RANK})\n"
        f"while not {others}: time.sleep(0.01)\ntime.sleep(0.5)\nsys.exit(2)"
    )
    with pytest.raises(JobFailedError) as failed:
        launch("train", [str(tmp_path)], 3)
    assert (failed.value.code, str(failed.value)) == (2, "")


def test_a_process_that_is_stopped_alone_is_named(program: Callable[[str], None], tmp_path: Path) -> None:
    """SIGTERM to one rank while scores are computed: it ends with 0, and the others because they have lost it."""
    program(f"sys.exit(0 if rank == 1 else {LOST_RANK})")
    with pytest.raises(JobFailedError, match="Process 1 of 2 was stopped by a signal to it alone") as failed:
        launch("train", [str(tmp_path)], 2)
    assert failed.value.code == 143


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_forwarded_once(program: Callable[[str], None], tmp_path: Path, number: signal.Signals) -> None:
    program(COUNT_SIGNALS)
    before = signal.getsignal(number)

    def ask() -> None:
        pids(tmp_path, 2)
        os.kill(os.getpid(), number)

    meanwhile(ask)
    assert launch("train", [str(tmp_path)], 2) == number
    assert signal.getsignal(number) is before


def test_sigterm_before_anything_can_be_saved_is_no_success(program: Callable[[str], None], tmp_path: Path) -> None:
    """The processes have no handler yet, as while they start."""
    program(f"{NOTE}\n{STAY}")

    def ask() -> None:
        pids(tmp_path, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    meanwhile(ask)
    with pytest.raises(JobFailedError, match=r"Stopped by SIGTERM, and nothing was saved\.") as failed:
        launch("train", [str(tmp_path)], 2)
    assert failed.value.code == 143


def test_what_the_processes_have_said_is_not_said_again(program: Callable[[str], None], tmp_path: Path) -> None:
    program(f"signal.signal(signal.SIGTERM, lambda number, frame: os._exit(143))\n{NOTE}\n{STAY}")

    def ask() -> None:
        pids(tmp_path, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    meanwhile(ask)
    with pytest.raises(JobFailedError) as failed:
        launch("train", [str(tmp_path)], 2)
    assert (failed.value.code, str(failed.value)) == (143, "")


@pytest.mark.slow
def test_processes_stop_when_their_launcher_is_killed(tmp_path: Path) -> None:
    inner = "import os, sys, time\nfrom captioner.distributed import launch\nlaunch._stop_with_launcher()\n"
    inner += f"{OWN_RANK}{NOTE}\n{STAY}"
    outer = (
        "import sys\nfrom captioner.distributed import launch\n"
        "launch.program = lambda: [sys.executable, '-c', sys.argv[2]]\nlaunch.launch('train', [sys.argv[1]], 2)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", outer, str(tmp_path), inner], cwd=ROOT)
    running = pids(tmp_path, 2)
    launcher.kill()
    launcher.wait()
    deadline = time.monotonic() + PATIENCE
    while any(is_alive(pid) for pid in running) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in running)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.devices=2", "trainer.batch_size=1"], "trainer.batch_size=1 is the batch of all processes together"),
        (["trainer.devices=2", "device=cuda"], "2 processes on this machine need as many GPUs, and it has 0"),
        (["trainer.devices=2", "device=mps"], "device=mps cannot be shared by several processes"),
        (["trainer.devices=0"], "trainer.devices=0 is too small"),
        (["trainer.devices=all"], "trainer.devices=all has the wrong type"),
    ],
)
def test_nothing_is_started_for_settings_that_cannot_work(
    command: Command, tiny: FolderConfig, options: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(launching, "program", lambda: ["/nothing/that/could/be/started"])
    result = command(main, *[option for option in SMALL if option != "device=cpu"], "hydra.run.dir=run", *options)
    assert result.code == 2
    assert message in result.err
    assert not Path("run").exists()


TRAINING = (*SMALL, "model=attention", "trainer.batch_size=4", "trainer.max_epochs=400", "trainer.patience=null")


def start(*words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *words], env=environment, stderr=subprocess.PIPE, text=True)


def steps_of(folder: Path) -> list[int]:
    return [record["step"] for record in read_records(folder) if record["kind"] == "train"]


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: subprocess.Popen[str]) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    return sorted(int(line) for line in found.stdout.split())


needs_pgrep = pytest.mark.skipif(shutil.which("pgrep") is None, reason="needs pgrep")


@pytest.mark.slow
@needs_pgrep
def test_killed_stopped_and_resumed(command: Command, tiny: FolderConfig) -> None:
    """A training in two processes: one of them killed; resumed and stopped by SIGTERM; resumed by one process."""
    job = start("-m", "captioner", "train", *TRAINING, "trainer.devices=2", "hydra.run.dir=run")
    wait_for(lambda: steps_of(Path("run")))
    os.kill(children(job)[-1], signal.SIGKILL)
    errors = job.communicate(timeout=PATIENCE)[1]  # long before trainer.timeout_minutes
    assert job.returncode == 137
    assert "error: Process 1 of 2 was killed by SIGKILL" in errors
    assert "Resume with: python train.py resume=run" in errors
    assert errors.count("error:") == 1
    assert "Traceback" not in errors

    done = max(steps_of(Path("run")))  # some of it is done again, from the latest checkpoint on
    job = start("-m", "captioner", "train", "resume=run")
    wait_for(lambda: "Resuming" in Path("run/log.txt").read_text() and max(steps_of(Path("run")), default=0) > done)
    job.terminate()
    errors = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 0
    assert errors.count("Stopping after this step") == errors.count("Saved. Resume with") == 1

    done = max(steps_of(Path("run"))) // 4 + 1
    result = command(main, "resume=run", "trainer.devices=null", f"trainer.max_epochs={done}")
    assert result.code == 0, result.err
    assert steps_of(Path("run")) == sorted(set(steps_of(Path("run"))))
    assert {path.name for path in Path().iterdir()} == {"data", "run"}


@pytest.mark.slow
@needs_pgrep
def test_torchrun_restarts_a_job_and_evaluates_its_model(command: Command, tiny: FolderConfig) -> None:
    options = (*TRAINING, "trainer.max_epochs=12", "trainer.log_every=1")
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=1")
    job = start(*torchrun, str(ROOT / "train.py"), *options)
    wait_for(lambda: any(max(steps_of(run), default=0) > 4 for run in Path().glob("runs/*")))  # past a validation
    os.kill(children(job)[-1], signal.SIGKILL)
    errors = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 0, errors
    (run,) = Path("runs").glob("[!.]*")  # .newest is beside it
    assert "Resuming" in (run / "log.txt").read_text()
    assert steps_of(run) == list(range(1, 49))
    assert (run / "metrics.json").exists()

    torchrun = torchrun[:-1]
    job = start(*torchrun, str(ROOT / "evaluate.py"), f"checkpoint={run}", "device=cpu", "metric.names=[Bleu]")
    errors = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 0, errors
    (evaluated,) = Path("runs").glob("*_evaluate_val")
    assert (evaluated / "captions_val.json").read_bytes() == (run / "captions_val.json").read_bytes()

    options = (f"checkpoint={run}", "device=cpu", "metric.names=[Bleu]", "devices=2", "hydra.run.dir=launched")
    job = start("-m", "captioner", "evaluate", *options)
    errors = job.communicate(timeout=PATIENCE)[1]
    assert job.returncode == 0, errors
    assert Path("launched/captions_val.json").read_bytes() == (run / "captions_val.json").read_bytes()
