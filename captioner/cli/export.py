"""`python -m captioner export`: share a trained captioner as a small folder or one file."""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from captioner.checkpoint.archive import ENDINGS, is_archive_name, pack_export
from captioner.checkpoint.best import find_best
from captioner.checkpoint.index import find_checkpoint, step_of
from captioner.checkpoint.onnx.description import PRECISIONS
from captioner.cli.export_onnx import export_onnx
from captioner.cli.export_web import export_web
from captioner.cli.flags import FlagParser, add_average, add_checkpoint
from captioner.cli.main import run_command
from captioner.cli.runs_folder import CONFIG_FILE, METRICS_FILE, shown
from captioner.errors import CaptionerError

if TYPE_CHECKING:
    from captioner.checkpoint.checkpoint import LoadedCheckpoint
    from captioner.report.model_card import TrainingRecord

CLASS_WEIGHT = 3.0  # chosen on training images: docs/tags.md
_NO_SCORES = (
    "Without scores: those in the run are of one checkpoint. For those of the average: "
    "python evaluate.py checkpoint={checkpoint} average={average}\n"
)
_SCORES_OF_ANOTHER_STEP = (
    "Without scores: those in the run are of step {scored:,}, and these weights of step {step:,}. For theirs: "
    "python evaluate.py checkpoint={path}\n"
)
_SCORES_WITHOUT_CLASSES = (
    "Without scores: those in the run were measured without the class words and their weight. For those of the "
    "export{}: python evaluate.py checkpoint={} data.root=DIR\n"
)
_PARTS = {"decoder": ("decoder",), "all": ("decoder", "encoder")}  # of --int8
_OTHER_ARCHIVES = (".7z", ".bz2", ".gz", ".rar", ".tar", ".xz")


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _export(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "export",
        "Share a trained captioner: weights in float16, without the encoder's where they are the published ones,\n"
        "without what only training needs, and with a model card. Every command takes the folder as --checkpoint;\n"
        'Captioner.pretrained("…") takes the folder and the archive.',
        [
            "export --checkpoint runs/… --out dogs",
            "export --checkpoint runs/… --out dogs.zip --notes what_it_gets_wrong.md",
            "export --checkpoint runs/… --out dogs --int8",
            "export --checkpoint runs/… --out dogs --class-words",
            "export --checkpoint runs/… --onnx dogs_onnx",
            "export --checkpoint runs/… --onnx dogs_int8 --precision int8 --photos photos/",
            "export --checkpoint runs/… --web site",
        ],
        {"to": "--out", "archive": "--out", "whole": "--with-encoder"},
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="the run folder to write, or one file: a name that ends in .tar.gz, .tgz or .zip",
    )
    parser.add_argument(
        "--onnx", type=Path, metavar="DIR", help="instead of --out: a folder of ONNX files, which need no torch"
    )
    parser.add_argument(
        "--add-onnx",
        action="store_true",
        help="instead of --out: add ONNX files to the checkpoint's own folder; they use its weights, and so are small",
    )
    parser.add_argument(
        "--web",
        type=Path,
        metavar="DIR",
        help="instead of --out: a folder of static files, a page that captions in the browser (docs/web.md)",
    )
    parser.add_argument(
        "--onnxruntime-web",
        type=Path,
        metavar="PATH",
        help="with --web: a folder or the npm package that holds onnxruntime-web (default: downloaded once)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="with --onnx or --web: of the weights; int8 needs --photos (default: float32, in half the size where\n"
        "exact; with --web, the ONNX files that the checkpoint has)",
    )
    parser.add_argument(
        "--photos", type=Path, metavar="DIR", help="with --precision int8: 100 photos of the kind to be captioned"
    )
    parser.add_argument("--replace", action="store_true", help="replace an earlier export at --out")
    parser.add_argument("--latest", action="store_true", help="the latest checkpoint instead of the best")
    add_average(parser)
    parser.add_argument(
        "--max-megabytes",
        type=float,
        metavar="M",
        help="largest total size: where float16 is too large, the largest matrices are stored in 8 bits",
    )
    parser.add_argument("--float32", action="store_true", help="keep all weights in float32")
    parser.add_argument(
        "--int8",
        choices=tuple(_PARTS),
        nargs="?",
        const="decoder",
        help="store the large matrices in 8 bits with one scale per row: the decoder's (default), or all",
    )
    parser.add_argument(
        "--with-encoder", action="store_true", help="include the encoder's weights even where they are published"
    )
    parser.add_argument(
        "--class-words",
        type=float,
        nargs="?",
        const=CLASS_WEIGHT,
        metavar="W",
        help="let the captioner name what the encoder's published classifier sees: adds words that it lacks, and\n"
        f"searches with decode.class_weight=W (default: {CLASS_WEIGHT:g}); calibrate it again afterwards",
    )
    parser.add_argument(
        "--notes", type=Path, metavar="FILE.md", help="for the model card: what the captioner gets wrong"
    )
    parser.add_argument("--name", help="name on the model card or on the page (default: that of the folder or file)")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    _check_kind(arguments)
    if arguments.onnx is not None or arguments.add_onnx:
        export_onnx(arguments)
        return
    if arguments.web is not None:
        export_web(arguments)
        return
    archive: Path | None = arguments.out if is_archive_name(arguments.out) else None
    if archive is None and arguments.out.suffix in _OTHER_ARCHIVES:
        raise CaptionerError(f"--out {arguments.out}: expected a folder, or a name that ends in {', '.join(ENDINGS)}.")
    limit = arguments.max_megabytes
    if limit is not None and not 0 < limit < 1e6:
        raise CaptionerError(f"--max-megabytes {limit:g}: expected a size such as 12.")
    which = "latest" if arguments.latest else "best"
    find_checkpoint(Path(arguments.checkpoint), which)

    from captioner.checkpoint.average import load_average
    from captioner.checkpoint.export import CARD_FILE, new_export, write_export
    from captioner.cli.run_config import write_settings
    from captioner.files import write_atomically, write_json
    from captioner.report.model_card import model_card

    if archive is not None and archive.exists() and not arguments.replace:
        raise CaptionerError(f"{archive} exists already: give another name, or --replace.")
    notes = _read_notes(arguments.notes)
    loaded = load_average(Path(arguments.checkpoint), arguments.average, which=which)
    before = loaded
    if arguments.class_words is not None:
        loaded = _with_class_words(loaded, arguments.class_words)
    classes_changed = before.vocabulary != loaded.vocabulary or before.settings.decode != loaded.settings.decode
    with ExitStack() as stack:
        if archive is None:
            target = arguments.out
        else:
            target = Path(stack.enter_context(tempfile.TemporaryDirectory())) / archive.name.split(".")[0]
        name = arguments.name or (target.absolute() if archive is None else target).name
        with new_export(target, replace_export=arguments.replace) as folder:
            packed = write_export(
                loaded,
                folder,
                half=not arguments.float32,
                in_8_bits=_PARTS.get(arguments.int8, ()),
                most_bytes=None if limit is None else int(limit * 1e6),
                whole=arguments.with_encoder,
            )
            trained = _trained(loaded.path.parent.parent)
            why_no_scores = _why_not_its_scores(loaded, trained, arguments, classes_changed=classes_changed)
            if why_no_scores is not None:
                trained = replace(trained, metrics=None)
                sys.stderr.write(why_no_scores)
            if trained.settings is not None:
                write_settings(trained.settings, folder)
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
        sys.stderr.write(f"The encoder's weights are included: {packed.why_whole}\n")
    if packed.in_8_bits:
        sys.stderr.write(f"In 8 bits: {', '.join(packed.in_8_bits)}\n")
    if notes is None:
        sys.stderr.write(
            "The model card does not list what the captioner gets wrong: give --notes FILE.md, or edit MODEL_CARD.md.\n"
        )
    sys.stdout.write(f"Written: {archive or target} ({size / 1e6:.2f} MB)\n")


def _why_not_its_scores(
    loaded: LoadedCheckpoint, trained: TrainingRecord, arguments: argparse.Namespace, *, classes_changed: bool
) -> str | None:
    """What to say where the scores in the run folder are those of other weights, or words, than the exported ones."""
    if trained.metrics is None:
        return None
    if loaded.averaged:
        return _NO_SCORES.format(checkpoint=arguments.checkpoint, average=arguments.average)
    if classes_changed:
        folder, note = arguments.out, ""
        if is_archive_name(folder):
            folder, note = folder.name.split(".")[0], " (write it as a folder)"
        return _SCORES_WITHOUT_CLASSES.format(note, folder)
    scored, step = trained.metrics.get("run", {}).get("best_step"), step_of(loaded.path.name)
    if scored is None or step is None or scored == step:
        return None
    return _SCORES_OF_ANOTHER_STEP.format(scored=scored, step=step, path=shown(loaded.path))


def _with_class_words(loaded: LoadedCheckpoint, weight: float) -> LoadedCheckpoint:
    """The captioner with words for ImageNet's classes; says which are new."""
    from captioner.checkpoint.class_vocabulary import add_class_words

    loaded, added = add_class_words(loaded, weight=weight)
    shown = "; ".join(f"{one.word} (from {', '.join(one.neighbors)})" for one in added)
    sys.stderr.write(f"{len(added)} new words{': ' if added else ''}{shown}\n")
    return loaded


def _check_kind(arguments: argparse.Namespace) -> None:
    """CaptionerError unless exactly one kind of export is asked for, with flags that have an effect on it."""
    kinds = {
        "--out": arguments.out,
        "--onnx": arguments.onnx,
        "--web": arguments.web,
        "--add-onnx": arguments.add_onnx,
    }
    given = [flag for flag, value in kinds.items() if value]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given" if given else "none was given"
        raise CaptionerError(f"Give one of --out PATH, --onnx DIR, --web DIR and --add-onnx: {found}. See --help.")
    ignored: dict[str, object] = {}
    if arguments.onnx is None and arguments.web is None:
        ignored |= {"--precision": arguments.precision, "--photos": arguments.photos}
    if arguments.web is None:
        ignored |= {"--onnxruntime-web": arguments.onnxruntime_web}
    if arguments.out is None:
        ignored |= {"--max-megabytes": arguments.max_megabytes, "--float32": arguments.float32}
        ignored |= {"--int8": arguments.int8}
        ignored |= {"--with-encoder": arguments.with_encoder, "--notes": arguments.notes}
        ignored |= {"--class-words": arguments.class_words}
    if arguments.out is None and arguments.web is None:
        ignored |= {"--name": arguments.name}
    for flag, value in ignored.items():
        if value:
            raise CaptionerError(f"{flag} has no effect with {given[0]}. Leave one of them out.")
    if arguments.average is not None:
        if arguments.latest:
            raise CaptionerError(f"--latest has no effect with --average {arguments.average}. Leave one of them out.")
        if arguments.add_onnx:
            raise CaptionerError(
                f"--add-onnx uses the weights of one checkpoint, so it has no --average {arguments.average}: "
                "use --onnx DIR, or --out first and then --add-onnx."
            )
        find_best(Path(arguments.checkpoint), arguments.average)


def _read_notes(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        raise CaptionerError(f"--notes {path} is not UTF-8 text ({error}).") from error


def _trained(run_folder: Path) -> TrainingRecord:
    """Settings, command and scores of a training, as far as its run folder has them, without paths of this machine."""
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
