"""`python -m captioner retrieve --checkpoint RUN`: find images by a sentence, and captions by an image."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from captioner.checkpoint.index import find_checkpoint
from captioner.cli.data_source import chosen_data
from captioner.cli.flags import FlagParser, add_checkpoint, add_data, add_device, add_json
from captioner.cli.main import run_command
from captioner.config.checks import at_least
from captioner.distributed.device import check_device_name


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _retrieve(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "retrieve",
        "Find images by sentences, with any captioner: by log p(sentence | image), or by the image features that\n"
        "model=chen_zitnick predicts from a sentence. Without a query, each caption of the split searches for its own\n"
        "image, and each image for one of its captions; the tables say how often that is among the first.",
        [
            "retrieve --checkpoint runs/… --split test",
            'retrieve --checkpoint runs/… --query "a dog runs on grass" --top 5',
        ],
    )
    add_checkpoint(parser)
    parser.add_argument("--query", metavar="SENTENCE", help="list the images that fit this sentence best")
    parser.add_argument(
        "--by",
        choices=("likelihood", "features"),
        help="what compares captions and images (default: features where the model predicts them, else likelihood)",
    )
    parser.add_argument(
        "--normalize",
        choices=("mean-image", "none"),
        default="mean-image",
        help="for captions of an image, by likelihood: subtract log p(caption | mean image) (default: mean-image)",
    )
    parser.add_argument("--top", type=int, default=5, help="images listed for a query (default: 5)")
    parser.add_argument("--images", type=int, help="search only the first so many images (default: all)")
    add_data(parser)
    add_device(parser)
    add_json(parser, "print one JSON object instead of text")
    return parser


def _retrieve(arguments: argparse.Namespace) -> None:
    at_least("--top", arguments.top, 1)
    at_least("--images", arguments.images, 1)
    check_device_name(arguments.device)
    checkpoint = find_checkpoint(Path(arguments.checkpoint))
    data = chosen_data(checkpoint, arguments.data, arguments.data_root, arguments.set)
    if arguments.images is not None:
        data = replace(data, limit=arguments.images)

    from captioner.cli.retrieve_job import retrieve

    retrieve(
        checkpoint,
        data,
        arguments.split,
        arguments.query,
        arguments.top,
        arguments.device,
        by=arguments.by,
        normalize=arguments.normalize,
        as_json=arguments.json,
    )
