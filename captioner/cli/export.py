"""`python -m captioner export`: a trained captioner as a small folder or one file, to be handed on."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.cli.main import run_command
from captioner.cli.runs_folder import CONFIG_FILE, METRICS_FILE
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.report.model_card import TrainingRecord


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _export(_parser().parse_args())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner export",
        description=(
            "Hand on a trained captioner: weights in float16, without the encoder's where they are the published ones, "
            "without what only a training needs, and with a model card. Whatever takes a checkpoint takes the folder; "
            'Captioner.pretrained("…") takes the folder and the archive.'
        ),
        epilog="example: python -m captioner export runs/… --archive dogs.zip --notes what_it_gets_wrong.md",
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run folder (its best checkpoint) or a checkpoint folder"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", type=Path, metavar="FOLDER", help="write a run folder")
    target.add_argument("--archive", type=Path, metavar="FILE", help="write one file: .tar.gz, .tgz or .zip")
    parser.add_argument("--replace", action="store_true", help="an earlier export that is there gives way")
    parser.add_argument("--latest", action="store_true", help="the latest checkpoint instead of the best")
    parser.add_argument(
        "--max-megabytes",
        type=float,
        metavar="M",
        help="of everything: where float16 is too much, the largest matrices are stored in 8 bits",
    )
    parser.add_argument("--float32", action="store_true", help="every number as it is")
    parser.add_argument("--whole", action="store_true", help="the encoder's weights too, also where they are published")
    parser.add_argument("--notes", type=Path, metavar="FILE.md", help="for the card: what it gets wrong, in Markdown")
    parser.add_argument("--name", help="for the card (default: the folder's or the file's name)")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    from captioner.checkpoint.archive import ENDINGS, is_archive_name, pack_export
    from captioner.checkpoint.checkpoint import load_checkpoint
    from captioner.checkpoint.export import CARD_FILE, new_export, write_export
    from captioner.cli.run_config import keep_settings
    from captioner.files import write_atomically, write_json
    from captioner.report.model_card import model_card

    archive: Path | None = arguments.archive
    limit = arguments.max_megabytes
    if limit is not None and not 0 < limit < 1e6:
        raise CaptionerError(f"--max-megabytes {limit:g}: expected a size such as 12.")
    if archive is not None and not is_archive_name(archive):
        raise CaptionerError(f"--archive {archive}: expected a name that ends in {', '.join(ENDINGS)}.")
    if archive is not None and archive.exists() and not arguments.replace:
        raise CaptionerError(f"{archive} is there already: give another name, or --replace.")
    notes = _read_notes(arguments.notes)
    loaded = load_checkpoint(arguments.run, which="latest" if arguments.latest else "best")
    with ExitStack() as stack:
        if archive is None:
            target = arguments.to
        else:
            target = Path(stack.enter_context(tempfile.TemporaryDirectory())) / archive.name.split(".")[0]
        name = arguments.name or (target.absolute() if archive is None else target).name
        with new_export(target, replace_export=arguments.replace) as folder:
            packed = write_export(
                loaded,
                folder,
                half=not arguments.float32,
                most_bytes=None if limit is None else int(limit * 1e6),
                whole=arguments.whole,
            )
            trained = _trained(loaded.path.parent.parent)
            if trained.settings is not None:
                keep_settings(trained.settings, folder)
            if trained.metrics is not None:
                write_json(folder / METRICS_FILE, trained.metrics)
            write_atomically(folder / CARD_FILE, model_card(name, loaded, packed, trained, notes).encode("utf-8"))
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            if limit is not None and size > limit * 1e6:
                raise CaptionerError(f"All files take {size / 1e6:.2f} MB, and --max-megabytes is {limit:g}.")
        if archive is not None:
            pack_export(target, archive)
            size = archive.stat().st_size
    if packed.why_whole is not None:
        sys.stderr.write(f"The encoder's weights are in it: {packed.why_whole}\n")
    if packed.in_8_bits:
        sys.stderr.write(f"In 8 bits: {', '.join(packed.in_8_bits)}\n")
    if notes is None:
        sys.stderr.write("The card does not say what it gets wrong: give --notes FILE.md, or edit MODEL_CARD.md.\n")
    sys.stdout.write(f"Written: {archive or target} ({size / 1e6:.2f} MB)\n")


def _read_notes(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        raise CaptionerError(f"--notes {path} is no text in UTF-8 ({error}).") from error


def _trained(run_folder: Path) -> TrainingRecord:
    """What the run's folder says of its training, as far as it is there; where data lay on this machine is left out."""
    from captioner.checkpoint.export import without_path
    from captioner.cli.hydra_config import settings_from_plain
    from captioner.cli.repro_command import training_command
    from captioner.cli.run_config import read_settings
    from captioner.cli.runs_folder import read_metrics
    from captioner.config import CacheConfig, TrainConfig
    from captioner.report.model_card import TrainingRecord

    metrics = read_metrics(run_folder) if (run_folder / METRICS_FILE).is_file() else None
    if not (run_folder / CONFIG_FILE).is_file():
        return TrainingRecord(metrics=metrics)
    settings = settings_from_plain(read_settings(run_folder))
    if not isinstance(settings, TrainConfig):
        return TrainingRecord(metrics=metrics)
    settings = replace(
        settings,
        data=replace(settings.data, root=None),
        encoder=without_path(settings.encoder),
        cache=replace(settings.cache, directory=CacheConfig().directory),
    )
    return TrainingRecord(settings, training_command(settings), metrics)
