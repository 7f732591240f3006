"""`python -m captioner consensus --checkpoint RUN`: let a model choose the caption that resembles what people say."""

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
from captioner.errors import CaptionerError


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _consensus(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "consensus",
        "Fit a predictor of the phrases that people use for an image to the training images, and store it in the\n"
        "checkpoint. A beam search then chooses among its captions by it (decode.consensus_weight, docs/decoding.md).",
        [
            "consensus --checkpoint runs/…",
            "consensus --checkpoint runs/… --weight 0.02 --beam-width 10",
            "consensus --checkpoint flickr8k --data flickr8k --data-root DIR",
        ],
    )
    add_checkpoint(parser)
    add_data(parser, split="train")
    parser.add_argument(
        "--weight",
        type=float,
        metavar="W",
        help="store decode.consensus_weight=W as well, so that the model's own search uses it (0.02 is a good start);\n"
        "without it only a search that is asked for it does",
    )
    parser.add_argument("--beam-width", type=int, metavar="K", help="with --weight: store decode.beam_width=K as well")
    parser.add_argument(
        "--dimensions", type=int, default=384, metavar="F", help="features of an image, 1 or more (default: 384)"
    )
    parser.add_argument(
        "--min-images",
        type=int,
        default=10,
        metavar="N",
        help="leave out n-grams that captions of fewer images have (default: 10); more makes the file smaller",
    )
    parser.add_argument("--bits", type=int, default=4, choices=(2, 4, 8), help="of a stored weight (default: 4)")
    add_device(parser)
    add_json(parser, "print the record as JSON instead of text")
    return parser


def _consensus(arguments: argparse.Namespace) -> None:
    check_device_name(arguments.device)
    for flag, value in (("--dimensions", arguments.dimensions), ("--min-images", arguments.min_images)):
        if value < 1:
            raise CaptionerError(f"{flag} {value}: expected 1 or more.")
    if arguments.beam_width is not None and arguments.weight is None:
        raise CaptionerError("--beam-width has no effect without --weight, which stores the model's own search.")
    folder = find_checkpoint(Path(arguments.checkpoint))
    data = chosen_data(folder, arguments.data, arguments.data_root, arguments.set)

    from captioner.cli.consensus_job import changed_search, fit_to_checkpoint, format_record, store
    from captioner.schema import to_plain

    decode = changed_search(folder, arguments.weight, arguments.beam_width)
    predictor = fit_to_checkpoint(
        folder,
        data,
        arguments.split,
        arguments.device,
        dimensions=arguments.dimensions,
        least_images=arguments.min_images,
        bits=arguments.bits,
    )
    size, is_outdated = store(predictor, folder, decode)
    if arguments.json:
        sys.stdout.write(json.dumps(to_plain(predictor.record) | {"bytes": size}, indent=2) + "\n")
    else:
        sys.stdout.write(format_record(predictor.record))
    sys.stderr.write(f"Stored in {folder} ({size / 1e6:.2f} MB).\n")
    if decode is None:
        sys.stderr.write("To use it: decode.consensus_weight=0.02 with a beam search, or --weight 0.02 here.\n")
    if is_outdated:
        sys.stderr.write("The confidence was measured for another search: run captioner calibrate again.\n")
