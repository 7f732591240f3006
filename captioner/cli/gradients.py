"""`python -m captioner gradients checkpoint=runs/…`: how far back in time a language model's gradient reaches."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from captioner.cli.main import run_command
from captioner.cli.options import read_options
from captioner.config.checks import at_least
from captioner.errors import ConfigError, DataError

HELP = """\
Measure the norm of the gradient of the loss with respect to the state, against the distance in time between the two,
on text that a language model was not trained on. Writes an image and a table.

  python -m captioner gradients checkpoint=runs/...
  python -m captioner gradients checkpoint=runs/RNN,runs/LSTM distance=200 untrained=true

  checkpoint  run or checkpoint folders, parted by commas
  distance    steps back in time (default: 100)
  streams     places of the text that are measured, each its own curve; the image shows their median (default: 16)
  untrained   also the same networks as they were before training (default: false)
  out         the folder for gradients.png and gradients.csv (default: where the command is run)
  device      auto, cpu, cuda, cuda:1 or mps (default: auto)
"""


@dataclass
class GradientsOptions:
    """What the command is given."""

    checkpoint: str = field(kw_only=True)
    distance: int = 100
    streams: int = 16
    untrained: bool = False
    out: str = "."
    device: str = "auto"

    def __post_init__(self) -> None:
        at_least("distance", self.distance, 1)
        at_least("streams", self.streams, 1)


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _gradients(sys.argv[1:])))


def _gradients(arguments: list[str]) -> None:
    if not arguments or {"-h", "--help"} & set(arguments):
        sys.stdout.write(HELP)
        return
    options = read_options(GradientsOptions, arguments)

    import torch

    from captioner.analysis.gradient_flow import gradient_norms
    from captioner.checkpoint.language_model_checkpoint import load_language_model
    from captioner.cli.tables import csv_table, markdown_table
    from captioner.data.text_corpus import load_text
    from captioner.distributed.device import choose_device
    from captioner.files import write_atomically
    from captioner.nn.decoders.language_model import LanguageModel
    from captioner.plots.gradient_plots import flow_plot

    device, out = choose_device(options.device), Path(options.out)
    if not out.is_dir():
        raise ConfigError(f"out={out} is not a folder: make it first, or leave it out.")
    curves: dict[str, torch.Tensor] = {}
    untrained: dict[str, torch.Tensor] = {}
    for path in options.checkpoint.split(","):
        loaded = load_language_model(Path(path), device)
        parts = load_text(loaded.settings.data)
        length, held_out = options.distance + 1, torch.cat([parts.val, parts.test])
        if len(held_out) < length * options.streams:
            raise DataError(
                f"{path} has {len(held_out)} {loaded.settings.data.level} of held-out text, too few for "
                f"streams={options.streams} of distance={options.distance}: lower one of them."
            )
        tokens = held_out[: length * options.streams].view(options.streams, length).to(device)
        name, cell = Path(path).name, loaded.settings.model.cell
        name = name if cell in name else f"{name} ({cell})"
        curves[name] = gradient_norms(loaded.model, tokens).cpu()
        if options.untrained:
            torch.manual_seed(0)
            fresh = LanguageModel(loaded.settings.model, len(loaded.vocabulary)).to(device)
            untrained[name] = gradient_norms(fresh, tokens).cpu()
    together = curves | {f"{name}, untrained": norms for name, norms in untrained.items()}
    medians = {name: norms.median(dim=0).values.tolist() for name, norms in together.items()}
    rows = [
        {"distance": str(d), **{name: f"{values[d]:.3g}" for name, values in medians.items()}}
        for d in range(options.distance)
    ]
    title = "how far the gradient reaches: median over streams, half of them shaded"
    flow_plot(curves, out / "gradients.png", title, untrained)
    write_atomically(out / "gradients.csv", csv_table(rows).encode())
    shown = sorted({0, 1, 2, 5, 10, 20, 50, 100, 200, 500, options.distance - 1} & set(range(options.distance)))
    sys.stdout.write(f"{markdown_table([rows[d] for d in shown])}\n\nWritten: {out}/gradients.png and gradients.csv\n")
