"""python -m captioner demo: what it says before there is a page, and how it ends."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from captioner.cli.demo import main, short_names
from captioner.errors import ConfigError
from captioner.training.loop import train
from captioner.training.setup import prepare
from tests.checkpoint.members import save_member
from tests.cli.conftest import Command
from tests.tiny import tiny_config, with_trainer, write_tiny_data

pytest.importorskip("starlette", reason="the demo page needs the extra [demo]")
pytest.importorskip("uvicorn", reason="the demo page needs the extra [demo]")

from captioner.demo import server
from captioner.demo.server import address_of, is_loopback, listen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "70000"], "--port 70000 is out of range"),
        (["--host", "no-such-host.invalid", "--port", "0"], "--host no-such-host.invalid is not known here"),
        (["--host", "192.0.2.1", "--port", "0"], "--host 192.0.2.1 --port 0 cannot be served"),
        (["--port", "0", "--checkpoint", "runs/nowhere"], "runs/nowhere"),
        (["--checkpoint", *"abcdefg"], "7 models are more than a page can show: expected up to 6"),
        (["runs/a"], "write --checkpoint runs/a"),
        (["--checkpoint", "a", "--ensemble"], "--ensemble needs two or more --checkpoint"),
        (["--checkpoint", *"abcdef", "--ensemble"], "7 models are more than a page can show"),
        (["--checkpoint", "a", "b", "--ensemble-mean", "log_probabilities"], "has no effect without --ensemble"),
    ],
)
def test_what_a_person_can_get_wrong(command: Command, arguments: list[str], message: str) -> None:
    result = command(main, *arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err


def test_without_a_run_the_captioner_of_the_package_is_shown(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_once(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", stop_at_once)
    result = command(main, "--port", "0")
    assert result.code == 0, result.err
    assert result.out.startswith("flickr8k: http://127.0.0.1:")
    assert "Using flickr8k, which comes with captioner" in result.err


def test_an_ensemble_is_shown_beside_its_members(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, name in enumerate("ab"):
        save_member(tmp_path / name, seed)

    def stop_at_once(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(server, "serve", stop_at_once)
    result = command(main, "--checkpoint", "a", "b", "--ensemble", "--port", "0", "--device", "cpu")
    assert result.code == 0, result.err
    assert result.out.startswith("a, b, ensemble of 2: http://127.0.0.1:")


def test_a_port_in_use(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = command(main, "--port", str(port))
    assert result.code == 2
    assert f"Port {port} is in use" in result.err
    assert f"--port {port + 1}" in result.err


def test_without_the_extra_it_says_what_to_install(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = command(main)
    assert result.code == 2
    assert "pip install 'captioner[demo]'" in result.err


def test_addresses() -> None:
    with listen("127.0.0.1", 0) as here:
        assert is_loopback(here)
        assert address_of(here, "127.0.0.1") == f"http://127.0.0.1:{here.getsockname()[1]}/"
    with listen("0.0.0.0", 0) as everywhere:
        assert not is_loopback(everywhere)
        assert address_of(everywhere, "0.0.0.0").startswith("http://127.0.0.1:")
    with pytest.raises(ConfigError, match="is not known here"):
        listen("a" * 80, 0)


def test_names_tell_the_models_apart() -> None:
    assert short_names([Path("/runs/a"), Path("/runs/b")]) == ["a", "b"]
    assert short_names([Path("/x/run"), Path("/y/run")]) == ["x/run", "y/run"]
    assert short_names([Path("/runs/a"), Path("/runs/a")]) == ["a (1)", "a (2)"]


@pytest.mark.slow
def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    train(prepare(with_trainer(tiny_config(write_tiny_data(tmp_path / "data")), max_epochs=1), run))
    process = subprocess.Popen(
        [sys.executable, "-m", "captioner", "demo", "--checkpoint", str(run), "--port", "0", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"run: (http://127\.0\.0\.1:\d+/) ", line)
    assert found, line
    with urllib.request.urlopen(found[1], timeout=300) as page:
        assert b"<title>captioner" in page.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "The page is closed." in out
    assert err.startswith("warning: --host 0.0.0.0 opens the page to every machine that can reach this one")
    assert err.count("\n") == 1
