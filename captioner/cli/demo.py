"""`python -m captioner demo`: a web page on which to try captioners on photos."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captioner.cli.flags import FlagParser, add_backend, add_checkpoint, add_device, add_ensemble_mean
from captioner.cli.main import run_command
from captioner.cli.runs_folder import unnamed_checkpoint
from captioner.distributed.device import check_device_name
from captioner.errors import CaptionerError, ConfigError
from captioner.runtime.backends import choose_backend, device_needs_torch, torch_is_installed

if TYPE_CHECKING:
    from captioner.captioning.base_captioner import BaseCaptioner

MOST_MODELS = 6  # side by side
_NEEDED = ("starlette", "uvicorn")


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _demo(_parser().read(sys.argv[1:]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "demo",
        "Open a web page on this machine to try captioners on photos: captions, alternatives, attention.\n"
        "(`python -m captioner quickstart`, which is `make demo`, trains a small captioner instead.)",
        ["demo", "demo --checkpoint runs/a runs/b --port 8000"],
    )
    add_checkpoint(parser, "flickr8k, which comes with the package", several="are compared", newest=True)
    parser.add_argument(
        "--ensemble", action="store_true", help="also show the checkpoints together, as an ensemble: the mean of them"
    )
    add_ensemble_mean(parser)
    parser.add_argument("--port", type=int, default=7860, help="0: any that is free (default: 7860)")
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--open", action="store_true", help="also open it in the browser")
    add_device(parser)
    add_backend(parser)
    return parser


def _demo(arguments: argparse.Namespace) -> None:
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise CaptionerError(
            f"The demo page needs {' and '.join(_NEEDED)}: pip install 'captioner[demo]' "
            "(in a checkout: pip install -e '.[demo]')."
        )
    if not 0 <= arguments.port <= 65535:
        raise ConfigError(f"--port {arguments.port} is out of range: expected 0 to 65535.")
    folders = [Path(path) for path in arguments.checkpoint or []]
    if arguments.ensemble and len(folders) < 2:
        raise ConfigError("--ensemble needs two or more --checkpoint RUN: an ensemble is the mean of several.")
    if arguments.ensemble_mean != "probabilities" and not arguments.ensemble:
        raise ConfigError(f"--ensemble-mean {arguments.ensemble_mean} has no effect without --ensemble.")
    models_shown = len(folders) + arguments.ensemble
    if models_shown > MOST_MODELS:
        raise ConfigError(f"{models_shown} models are more than a page can show: expected up to {MOST_MODELS}.")
    check_device_name(arguments.device)

    import webbrowser

    from captioner.demo.answers import DemoModel
    from captioner.demo.app import build_app
    from captioner.demo.server import address_of, is_loopback, listen, serve

    with listen(arguments.host, arguments.port) as listening:  # first: a port in use is known before anything is loaded
        if not folders:
            chosen, notice = unnamed_checkpoint(newest=arguments.newest)
            folders = [Path(chosen)]
            sys.stderr.write(notice + "\n")
        models = [
            DemoModel(name, _load(folder, arguments))
            for folder, name in zip(folders, short_names(folders), strict=True)
        ]
        if arguments.ensemble:
            from captioner.inference import Captioner

            together = Captioner.from_checkpoint(folders, arguments.device, ensemble_mean=arguments.ensemble_mean)
            models.append(DemoModel(f"ensemble of {len(folders)}", together))
        app = build_app(models, arguments.host)
        address = address_of(listening, arguments.host)
        sys.stdout.write(f"{', '.join(model.name for model in models)}: {address} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        if not is_loopback(listening):
            sys.stderr.write(
                f"warning: --host {arguments.host} opens the page to every machine that can reach this one, without a "
                "password or encryption: they can send photos, see the models' names, and use this machine's "
                "processors. Leave --host out to keep it to this machine.\n"
            )
        if arguments.open and not webbrowser.open(address):
            sys.stderr.write("No browser could be opened here: open the address by hand.\n")
        with contextlib.suppress(KeyboardInterrupt):
            serve(app, listening)
        sys.stdout.write("\nThe page is closed.\n")
        if app.state.line.is_working:  # a thread cannot be stopped, and Python cannot end well while it computes
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)


def _load(folder: Path, arguments: argparse.Namespace) -> BaseCaptioner[Any, Any]:
    """The captioner of a checkpoint, on the side that `--backend` names, or that suits it and `--device`."""
    needs_torch = device_needs_torch(arguments.backend, arguments.device)
    if choose_backend(arguments.backend, folder, needs_torch) == "onnx":
        from captioner.runtime.fallback_captioner import FallbackCaptioner
        from captioner.runtime.onnx_captioner import OnnxCaptioner

        # The page offers sampling, which torch does where it is installed.
        return (FallbackCaptioner if torch_is_installed() else OnnxCaptioner).from_checkpoint(folder)
    from captioner.inference import Captioner

    return Captioner.from_checkpoint(folder, arguments.device)


def short_names(folders: Sequence[Path]) -> list[str]:
    """Distinct names for the folders: their last parts, as many as are needed, or numbered where that is not enough."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(["/".join(part[-1:]) for part in parts], start=1)]
