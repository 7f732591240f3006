"""`python -m captioner cells --checkpoint RUN`: which unit of a network tracks which property, as colored text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.flags import FlagParser, add_checkpoint, add_data, add_device
from captioner.cli.main import run_command
from captioner.config.checks import at_least
from captioner.distributed.device import check_device_name

SCALES = ("percentile", "tanh")


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _cells(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "cells",
        "Show what the units of a trained network keep track of, as colored text (PNG and HTML), and how often its\n"
        "gates are saturated. For language models and captioners.",
        [
            "cells --checkpoint runs/…                          the best units for every property",
            "cells --checkpoint runs/… --property quotes",
            "cells --checkpoint runs/… --unit layer1.c.37",
            "cells --checkpoint runs/… --property object:dog    (a captioner)",
        ],
        {"read": "--tokens", "draw": "--plot-tokens"},
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--text", type=Path, metavar="FILE", help="a language model reads this file (default: its held-out text)"
    )
    parser.add_argument(
        "--property",
        metavar="NAME",
        help="text: quotes, line_position, brackets, indentation, comment, word; "
        "captions: position, word:and, object:dog (or any other word)",
    )
    parser.add_argument("--unit", metavar="NAME", help="plot this unit, whatever it does")
    parser.add_argument("--top", type=int, default=3, help="units per property; the best is plotted (default: 3)")
    parser.add_argument("--tokens", type=int, default=20_000, help="tokens of text to read (default: 20000)")
    parser.add_argument("--images", type=int, default=300, help="images to caption (default: 300)")
    parser.add_argument("--plot-tokens", type=int, default=2000, help="tokens to plot (default: 2000)")
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default=SCALES[0],
        help="percentile: red and blue are the unit's lowest and highest values; tanh: −1 and +1, cell states squashed "
        f"by tanh, as in the paper (default: {SCALES[0]})",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for plots (default: cells/ in the run folder)")
    add_data(parser)
    add_device(parser)
    return parser


def _cells(arguments: argparse.Namespace) -> None:
    for flag in ("top", "tokens", "images", "plot_tokens"):
        at_least(f"--{flag.replace('_', '-')}", getattr(arguments, flag), 1)
    check_device_name(arguments.device)
    checkpoint = find_checkpoint(Path(arguments.checkpoint))

    from captioner.cli.cells_job import show_cells

    show_cells(checkpoint, arguments)
