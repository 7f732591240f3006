"""One run folder has one owner: with real processes, as record locks do not exist within one."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from captioner.cli import owner_lock
from captioner.cli.owner_lock import LOCK_FILE, Role, owned, owner_runs, process_start
from captioner.cli.train import main
from captioner.errors import ConfigError, StorageError
from tests.cli.conftest import SMALL, Command

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import sys
from pathlib import Path
from captioner.cli.owner_lock import Role, owned
with owned(Path(sys.argv[1]), "run", Role[sys.argv[2]]):
    print("locked", flush=True)
    sys.stdin.read()
"""
Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """hold(folder, role): a process that owns the folder until its input is closed or it is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(folder: Path, role: str = "ALONE") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", CODE, str(folder), role]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate()  # closes its input, and waits


def test_the_second_owner_is_refused_with_the_name_of_the_first(hold: Hold, tmp_path: Path) -> None:
    first = hold(tmp_path)
    with pytest.raises(ConfigError) as refused, owned(tmp_path, "runs/x"):
        pass
    start = f"runs/x is in use by process {first.pid} on {socket.gethostname()}, since 20"
    assert str(refused.value).startswith(start)
    assert f"(kill {first.pid} lets it save first)" in str(refused.value)
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == first.pid
    end(first)
    assert not (tmp_path / LOCK_FILE).exists()
    with owned(tmp_path, "runs/x"):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


def test_a_killed_owner_leaves_nothing_that_stops_the_next(hold: Hold, tmp_path: Path) -> None:
    first = hold(tmp_path)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == first.pid
    with owned(tmp_path, "run"):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_launcher_and_its_writer_own_one_folder_and_either_keeps_it(hold: Hold, tmp_path: Path) -> None:
    launcher, writer = hold(tmp_path, "LAUNCHER"), hold(tmp_path, "WRITER")
    for role in (Role.ALONE, Role.LAUNCHER, Role.WRITER):
        with pytest.raises(ConfigError, match=f"in use by process {launcher.pid}"), owned(tmp_path, "run", role):
            pass
    launcher.kill()
    launcher.wait()
    with pytest.raises(ConfigError, match="in use"), owned(tmp_path, "run"):
        pass
    end(writer)
    with owned(tmp_path, "run"):
        pass


def test_a_train_command_leaves_the_folder_of_another_alone(
    hold: Hold, command: Command, tiny: object, tmp_path: Path
) -> None:
    """Before any work: there is not even a settings file."""
    (tmp_path / "run").mkdir()
    owner = hold(tmp_path / "run")
    result = command(main, *SMALL, "hydra.run.dir=run")
    assert result.code == 2
    assert result.err.startswith(f"error: run is in use by process {owner.pid} on ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK_FILE]


def no_locks(descriptor: int, byte: int) -> bool:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def record(**changed: object) -> str:
    host, start = socket.gethostname(), process_start(os.getppid())
    return json.dumps({"host": host, "pid": os.getppid(), "started": start, "since": "today"} | changed)


@pytest.mark.skipif(process_start(os.getpid()) is None, reason="the system does not say when a process started")
@pytest.mark.parametrize(
    ("changed", "is_refused"),
    [
        ({}, True),
        ({"started": "another boot 17"}, False),
        ({"pid": 2**22 + 1}, False),
        ({"host": "elsewhere"}, True),
    ],
    ids=["it runs", "its number was given again", "it has ended", "another machine cannot be asked"],
)
def test_without_locks_the_record_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], is_refused: bool
) -> None:
    monkeypatch.setattr(owner_lock, "_lock", no_locks)
    (tmp_path / LOCK_FILE).write_text(record(**changed))
    assert owner_runs(json.loads(record(**changed))) is is_refused
    if is_refused:
        with pytest.raises(ConfigError, match="is in use by process"), owned(tmp_path, "run"):
            pass
    else:
        with owned(tmp_path, "run"):
            pass


@pytest.mark.parametrize("content", ["", "{", "[]", '{"host": "a"}', '{"host": 1, "pid": "x", "since": 2}'])
def test_an_altered_record_of_a_dead_owner_stops_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK_FILE).write_text(content)
    with owned(tmp_path, "run"):
        pass


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"owner\.lock could not be written"), owned(tmp_path / "missing", "run"):
        pass
