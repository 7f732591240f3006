"""`python -m captioner gradients --checkpoint RUN`: how far back in time a language model's gradient reaches."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.flags import FlagParser, add_checkpoint, add_device, add_json
from captioner.cli.main import run_command
from captioner.config.checks import at_least
from captioner.distributed.device import check_device_name
from captioner.errors import ConfigError, DataError


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _gradients(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "gradients",
        "Measure the norm of the gradient of the loss with respect to the state, against the distance in time\n"
        "between the two, on text that a language model was not trained on. Writes a plot and a table.",
        [
            "gradients --checkpoint runs/…",
            "gradients --checkpoint runs/RNN runs/LSTM --distance 200 --untrained",
        ],
    )
    add_checkpoint(parser, several="are compared")
    parser.add_argument("--distance", type=int, default=100, help="steps back in time (default: 100)")
    parser.add_argument(
        "--streams",
        type=int,
        default=16,
        help="positions of the text that are measured, one curve each; the plot shows their median (default: 16)",
    )
    parser.add_argument("--untrained", action="store_true", help="also the same networks before training")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="folder for gradients.png and .csv (default: .)",
    )
    add_device(parser)
    add_json(parser, "print the median norm at every distance as JSON instead of a table")
    return parser


def _gradients(arguments: argparse.Namespace) -> None:
    at_least("--distance", arguments.distance, 1)
    at_least("--streams", arguments.streams, 1)
    out: Path = arguments.out
    if not out.is_dir():
        raise ConfigError(f"--out {out} is not a folder: make it first, or leave --out away.")
    check_device_name(arguments.device)
    for path in arguments.checkpoint:
        find_checkpoint(Path(path))

    import torch

    from captioner.analysis.gradient_flow import gradient_norms
    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.cli.tables import csv_table, markdown_table
    from captioner.data.text_corpus import load_text
    from captioner.distributed.device import choose_device
    from captioner.files import write_atomically
    from captioner.nn.decoders.language_model import LanguageModel
    from captioner.plots.gradient_plots import flow_plot

    device = choose_device(arguments.device)
    curves: dict[str, torch.Tensor] = {}
    untrained: dict[str, torch.Tensor] = {}
    for path in arguments.checkpoint:
        loaded = load_language_model(Path(path), device)
        parts = load_text(loaded.settings.data)
        length, held_out = arguments.distance + 1, torch.cat([parts.val, parts.test])
        if len(held_out) < length * arguments.streams:
            raise DataError(
                f"{path} has {len(held_out)} {loaded.settings.data.level} of held-out text, too few for "
                f"--streams {arguments.streams} of --distance {arguments.distance}: lower one of them."
            )
        tokens = held_out[: length * arguments.streams].view(arguments.streams, length).to(device)
        name, cell = Path(path).name, loaded.settings.model.cell
        name = name if cell in name else f"{name} ({cell})"
        curves[name] = gradient_norms(loaded.model, tokens).cpu()
        if arguments.untrained:
            torch.manual_seed(0)
            fresh = LanguageModel(loaded.settings.model, len(loaded.vocabulary)).to(device)
            untrained[name] = gradient_norms(fresh, tokens).cpu()
    together = curves | {f"{name}, untrained": norms for name, norms in untrained.items()}
    medians = {name: norms.median(dim=0).values.tolist() for name, norms in together.items()}
    rows = [
        {"distance": str(d), **{name: f"{values[d]:.3g}" for name, values in medians.items()}}
        for d in range(arguments.distance)
    ]
    title = "how far the gradient reaches: median over streams, half of them shaded"
    flow_plot(curves, out / "gradients.png", title, untrained)
    write_atomically(out / "gradients.csv", csv_table(rows).encode())
    if arguments.json:
        files = [str(out / name) for name in ("gradients.png", "gradients.csv")]
        record = {"distance": list(range(arguments.distance)), "median_norm": medians, "files": files}
        sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        return
    shown = sorted({0, 1, 2, 5, 10, 20, 50, 100, 200, 500, arguments.distance - 1} & set(range(arguments.distance)))
    sys.stdout.write(f"{markdown_table([rows[d] for d in shown])}\n\nWritten: {out}/gradients.png and gradients.csv\n")
