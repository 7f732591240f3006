"""`python -m captioner import FILE --from PROJECT`: a checkpoint of another captioning project as a run folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from captioner.checkpoint.foreign.projects import PROJECTS
from captioner.cli.flags import FlagParser
from captioner.cli.main import run_command
from captioner.cli.runs_folder import RUNS_FOLDER, shown
from captioner.config.encoder import NO_ENCODER_NAME
from captioner.errors import ConfigError


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _import(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "import",
        "Convert a checkpoint of another captioning project to a run folder, which every command takes as\n"
        "--checkpoint. Nothing in the file is executed: it is read as tensors and plain values. docs/importing.md\n"
        "says what each project's files are and what agrees.",
        [
            "import BEST_checkpoint_coco_5_cap_per_img_5_min_word_freq.pth.tar --from sgrvinod",
            "import models/decoder-5-3000.ckpt --from yunjey --vocabulary data/vocab.pkl",
            "import log_fc/model-best.pth --from ruotianluo --encoder-weights resnet101.pth --out runs/fc",
        ],
        {"to": "--out", "vocab": "--vocabulary", "project": "--from"},
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint")
    parser.add_argument(
        "--from", required=True, dest="project", choices=list(PROJECTS), help="the project that wrote it"
    )
    parser.add_argument(
        "--out", type=Path, metavar="RUN", help="the run folder to write (default: runs/ and the file's name)"
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        metavar="FILE",
        help="WORDMAP_….json of sgrvinod, vocab.pkl of yunjey, infos_….pkl of ruotianluo (default: beside FILE)",
    )
    parser.add_argument(
        "--encoder", metavar="NAME", help="the encoder, as in encoder.name (default: recognized; ruotianluo: none)"
    )
    parser.add_argument(
        "--encoder-weights",
        metavar="FILE",
        help="the encoder's weights: encoder-….ckpt of yunjey (default: beside FILE); for ruotianluo, whose "
        "checkpoints have none, a state dict such as resnet101.pth",
    )
    return parser


def _import(arguments: argparse.Namespace) -> None:
    path: Path = arguments.file
    if arguments.project == "sgrvinod" and arguments.encoder_weights is not None:
        raise ConfigError("--encoder-weights has no effect with --from sgrvinod: its checkpoints have their encoder.")
    out = arguments.out or RUNS_FOLDER / default_name(path)

    from captioner.checkpoint.foreign.import_checkpoint import ImportOptions, import_checkpoint

    imported = import_checkpoint(
        path,
        arguments.project,
        out,
        ImportOptions(arguments.vocabulary, arguments.encoder, arguments.encoder_weights),
    )
    for note in imported.notes:
        sys.stderr.write(f"Note: {note}\n")
    run = shown(out.absolute())
    use = f"Caption a photo: python caption.py photo.jpg --checkpoint {run}"
    if imported.encoder == NO_ENCODER_NAME:
        use = f"Caption and score a split: python evaluate.py checkpoint={run} data=… data.features=DIR"
    sys.stdout.write(
        f"Imported: {imported.about}, {imported.words:,} tokens, encoder {imported.encoder}\nRun folder: {run}\n{use}\n"
    )


def default_name(path: Path) -> str:
    """The name of the run: the file's without its endings, and its folder's where that is only "model"."""
    stem = path.name.removesuffix(".tar").rsplit(".", 1)[0]
    return f"{path.absolute().parent.name}_{stem}" if stem.startswith("model") else stem
