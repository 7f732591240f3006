"""`python -m captioner calibrate --checkpoint RUN`: make a model say how sure it is of a caption."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.data_source import chosen_data
from captioner.cli.flags import FlagParser, add_checkpoint, add_data, add_device, add_json
from captioner.cli.main import run_command
from captioner.distributed.device import check_device_name


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _calibrate(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "calibrate",
        "Measure on a validation split how good captions of a given probability are, and which images are unlike\n"
        "those that the model knows. Stores the result in the checkpoint: captions then have a confidence.",
        ["calibrate --checkpoint runs/…", "calibrate --checkpoint flickr8k --data flickr8k --data-root DIR"],
    )
    add_checkpoint(parser)
    add_data(parser)
    add_device(parser)
    add_json(parser, "print the record and the reliability table as JSON instead of text")
    return parser


def _calibrate(arguments: argparse.Namespace) -> None:
    check_device_name(arguments.device)
    folder = find_checkpoint(Path(arguments.checkpoint))
    data = chosen_data(folder, arguments.data, arguments.data_root, arguments.set)

    from captioner.cli.calibrate_job import calibrate_checkpoint, format_calibration
    from captioner.schema import to_plain

    calibration, bins = calibrate_checkpoint(folder, data, arguments.split, arguments.device)
    if arguments.json:
        record = to_plain(calibration.record) | {"reliability": [to_plain(one) for one in bins]}
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
    else:
        sys.stdout.write(format_calibration(calibration, bins))
    sys.stderr.write(f"Stored in {folder}.\n")
