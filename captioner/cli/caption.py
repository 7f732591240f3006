"""`python caption.py photo.jpg`: captions of photos, by the bundled model, the newest finished run or a named one."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, cast
from urllib.parse import urlsplit

from captioner.checkpoint.archive import is_archive_name
from captioner.checkpoint.best import find_best
from captioner.checkpoint.pretrained import pretrained_names
from captioner.cli.captions_file import caption_record, caption_to_file
from captioner.cli.flags import (
    FlagParser,
    add_average,
    add_backend,
    add_checkpoint,
    add_device,
    add_ensemble_mean,
    add_json,
)
from captioner.cli.main import run_command
from captioner.cli.runs_folder import unnamed_checkpoint
from captioner.cli.search_flags import RENAMED, WITH_TORCH, add_search, given_flags, read_search
from captioner.distributed.device import check_device_name
from captioner.errors import CaptionerError, ConfigError, ImageError
from captioner.progress_bar import Progress
from captioner.runtime.backends import choose_backend, device_needs_torch, torch_is_installed

if TYPE_CHECKING:
    from captioner.captioning.base_captioner import BaseCaptioner
    from captioner.config import DecodeConfig
    from captioner.generated_caption import Caption
    from captioner.inference import Captioner

SHOWN = 5  # names of skipped files that are printed


def main() -> None:
    """The entry point of caption.py and of `python -m captioner caption`."""
    sys.exit(run_command(lambda: _caption(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "caption",
        "Caption photos with a trained model. (`python caption.py` is the same command.)",
        [
            "caption photo.jpg",
            "caption photo.jpg holiday/ --checkpoint runs/… --plot sheet.png",
            "caption photos/ --out captions.jsonl",
            'caption photo.jpg --score "a dog runs on grass"',
            "caption photo.jpg --checkpoint runs/a runs/b runs/c",
            "caption photo.jpg --decode diverse --alternatives 4",
            "caption photo.jpg --decode sample --temperature 0.8 --top-p 0.9 --seed 3",
        ],
        RENAMED,
    )
    parser.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, or folders of them")
    add_checkpoint(parser, "flickr8k, which comes with the package", several="are an ensemble", newest=True)
    add_ensemble_mean(parser)
    add_average(parser)
    add_json(parser, "print one JSON object per line instead of text")
    for flag, what in (("must-have", "has; 'dog|puppy' for one of several"), ("must-not", "has not")):
        parser.add_argument(
            f"--{flag}",
            action="append",
            default=[],
            metavar="WORDS",
            help=f"a word or phrase that every caption {what}; may be repeated",
        )
    parser.add_argument(
        "--no-tags", action="store_true", help="with --json or --out: leave out what the classifier sees"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.jsonl",
        help="write one JSON object per line and image to this file; the same command goes on where it was stopped",
    )
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="write a plot of captions and attention weights")
    parser.add_argument(
        "--contour",
        type=float,
        metavar="SHARE",
        help="with --plot: a line around this share of each word's attention weights",
    )
    parser.add_argument(
        "--scale",
        choices=("shared", "word"),
        default="shared",
        help="with --plot: one scale for all words, or each its own (default: shared)",
    )
    parser.add_argument("--alternatives", type=int, default=0, metavar="N", help="also show the N next best captions")
    parser.add_argument(
        "--score",
        action="append",
        default=[],
        metavar="CAPTION",
        help="generate nothing: how probable the model finds this caption, word by word; may be repeated",
    )
    add_device(parser)
    add_backend(parser)
    add_search(parser)
    return parser


def _caption(arguments: argparse.Namespace) -> None:
    _split_checkpoints(arguments)
    _check_values(arguments)
    paths, skipped = list_images(arguments.images)
    _check_written_elsewhere(paths, arguments)
    if skipped:
        sys.stderr.write(describe_skipped(skipped) + "\n")
    checkpoints: list[str | Path] = arguments.checkpoint or []
    if not checkpoints:
        checkpoint, notice = unnamed_checkpoint(newest=arguments.newest)
        checkpoints = [checkpoint]
        if not arguments.json:
            sys.stderr.write(notice + "\n")
    for path in checkpoints if arguments.average is not None else ():
        find_best(Path(path), arguments.average)
    if len(paths) == 1 and not paths[0].exists():
        raise ImageError(f"{paths[0]} does not exist. Expected an image.")

    captioner = _load(checkpoints, arguments)
    decode = read_search(arguments, captioner.decode)
    if arguments.score:
        unreadable = _score(cast("Captioner", captioner), paths, arguments)  # --score needs torch
    elif arguments.out is not None:
        unreadable = caption_to_file(captioner, paths, decode, arguments)
    else:
        unreadable = _caption_and_print(captioner, paths, decode, arguments)
    if unreadable:
        done = "scored" if arguments.score else "captioned"
        raise ImageError(f"{unreadable} of {len(paths)} images could not be read; the others are {done}.")


def _load(checkpoints: list[str | Path], arguments: argparse.Namespace) -> BaseCaptioner[Any, Any]:
    """The captioner, on the side that `--backend` names, or that suits the checkpoint and the other flags."""
    reasons = {
        "--score": arguments.score,
        "an ensemble": len(checkpoints) > 1,
        f"--average {arguments.average}": arguments.average is not None,
        f"--decode {arguments.decode}": arguments.decode in WITH_TORCH,
    }
    needs_torch = next((reason for reason, applies in reasons.items() if applies), None)
    needs_torch = needs_torch or device_needs_torch(arguments.backend, arguments.device)
    if choose_backend(arguments.backend, checkpoints[0], needs_torch) == "onnx":
        from captioner.runtime import OnnxCaptioner

        captioner = OnnxCaptioner.from_checkpoint(checkpoints[0])
        lacking = captioner.lacking(read_search(arguments, captioner.decode))
        if lacking is None or arguments.backend == "onnx" or not torch_is_installed():
            if captioner.without_classes:
                sys.stderr.write(f"Searched with class_weight=0: {lacking}.\n")
            return captioner
    from captioner.inference import Captioner

    return Captioner.from_checkpoint(
        checkpoints, device=arguments.device, ensemble_mean=arguments.ensemble_mean, average=arguments.average
    )


def _score(captioner: Captioner, paths: Sequence[Path], arguments: argparse.Namespace) -> int:
    """Score the captions of --score for each image; returns how many of several images could not be read."""
    from captioner.cli.scored_captions import print_scored  # imports the metrics

    unreadable = 0
    for path in paths:
        try:
            for scored in captioner.score(path, arguments.score):
                print_scored(path, scored, as_json=arguments.json)
        except ImageError as error:
            if len(paths) == 1:
                raise
            sys.stderr.write(f"error: {error}\n")
            unreadable += 1
    return unreadable


def _caption_and_print(
    captioner: BaseCaptioner[Any, Any], paths: Sequence[Path], decode: DecodeConfig, arguments: argparse.Namespace
) -> int:
    """Caption the images, print each caption and draw the plot; returns how many of several could not be read."""
    tags = arguments.json and not arguments.no_tags
    settings: dict[str, Any] = {
        "decode": decode,
        "alternatives": arguments.alternatives,
        "tags": tags,
        "must_have": arguments.must_have,
        "must_not": arguments.must_not,
    }
    captions: Iterator[Caption | ImageError]
    if len(paths) == 1:
        captions = iter([captioner.caption(paths[0], **settings)])
    else:
        captions = captioner.caption_each(paths, **settings)
    captioned: list[tuple[Path, Caption]] = []
    unreadable = 0
    with Progress(len(paths), "captions", enabled=len(paths) > 1 and not sys.stdout.isatty()) as progress:
        for path, caption in zip(paths, captions, strict=True):
            progress.update()
            if isinstance(caption, ImageError):
                progress.note(f"error: {caption}")
                unreadable += 1
                continue
            if arguments.plot is not None:
                captioned.append((path, caption))
            _print(path, caption, as_json=arguments.json, with_path=len(paths) > 1)
    if captioned:
        _write_plot(captioned, captioner.transform.resize, arguments)
    return unreadable


def _split_checkpoints(arguments: argparse.Namespace) -> None:
    """Move the images that follow the checkpoints, as in `--checkpoint RUN photo.jpg`, to the other images."""
    from captioner.data.images.decode import IMAGE_SUFFIXES

    given = arguments.checkpoint or []
    images = [path for path in map(Path, given[1:]) if _is_image(path, IMAGE_SUFFIXES)]
    arguments.checkpoint = [path for path in given if Path(path) not in images]
    arguments.images = [*arguments.images, *images]
    if not arguments.images:
        raise ConfigError("IMAGE is missing: give image files, or folders of them. See --help.")
    if arguments.ensemble_mean != "probabilities" and len(arguments.checkpoint) < 2:
        raise ConfigError(f"--ensemble-mean {arguments.ensemble_mean} has no effect on one checkpoint: give more.")


def _is_image(path: Path, suffixes: Collection[str]) -> bool:
    """Whether a path after --checkpoint RUN is an image or a folder of images, and not another checkpoint."""
    if path.is_dir():
        return not any((path / name).exists() for name in ("checkpoints", "config.json", "model.safetensors"))
    if str(path) in pretrained_names() or is_archive_name(path):
        return False
    return path.is_file() or path.suffix.lower() in suffixes or re.match(r"(https?|ftp):/", str(path)) is not None


def _check_values(arguments: argparse.Namespace) -> None:
    """CaptionerError for a value that cannot work, before anything is loaded."""
    ignored = {"--plot": arguments.plot, "--alternatives": arguments.alternatives, "--out": arguments.out}
    ignored |= given_flags(arguments)
    for flag, value in ignored.items():
        if arguments.score and value:
            raise CaptionerError(
                f"{flag} {value} has no effect with --score, which generates no caption. Leave one out."
            )
    if arguments.out is not None and arguments.plot is not None:
        raise CaptionerError("--out is for many images, and --plot for a few in one picture. Leave one out.")
    if arguments.out is not None and arguments.json:
        raise CaptionerError("--json has no effect with --out, whose lines are JSON objects. Leave it out.")
    if arguments.out is not None and not arguments.out.absolute().parent.is_dir():
        raise CaptionerError(f"--out {arguments.out}: the folder {arguments.out.absolute().parent} does not exist.")
    if arguments.out is not None and arguments.out.exists() and not arguments.out.is_file():
        raise CaptionerError(f"--out {arguments.out} is no ordinary file. Expected one, such as captions.jsonl.")
    if arguments.alternatives < 0:
        raise CaptionerError(f"--alternatives {arguments.alternatives}: expected 0 or more.")
    if arguments.plot is not None:
        _check_plot(arguments.plot)
    if arguments.contour is not None and not 0 < arguments.contour < 1:
        raise CaptionerError(f"--contour {arguments.contour}: expected a share between 0 and 1, such as 0.5.")
    check_device_name(arguments.device)


def _check_plot(plot: Path) -> None:
    """CaptionerError where a plot cannot be written, or would replace what is no plot: `--plot *.png` names a photo."""
    if plot.suffix.lower() != ".png":
        raise CaptionerError(f"--plot {plot}: a plot is a PNG file. Expected a path that ends in .png.")
    if not plot.absolute().parent.is_dir():
        raise CaptionerError(f"--plot {plot}: the folder {plot.absolute().parent} does not exist.")
    if plot.exists() and not _is_plot(plot):
        raise CaptionerError(f"--plot {plot} exists, and is no plot that could be replaced: name another file.")


def _is_plot(path: Path) -> bool:
    """Whether matplotlib has written this file, or nothing is in it."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return str(image.info.get("Software")).startswith("Matplotlib")
    except OSError:
        return path.is_file() and path.stat().st_size == 0


def _check_written_elsewhere(paths: Sequence[Path], arguments: argparse.Namespace) -> None:
    """CaptionerError where an output is one of the images to caption, which it would replace."""
    for flag, output in (("--plot", arguments.plot), ("--out", arguments.out)):
        if output is not None and output.exists() and any(path.exists() and path.samefile(output) for path in paths):
            raise CaptionerError(f"{flag} {output} is one of the images to caption: name another file.")


def _print(path: Path, caption: Caption, *, as_json: bool, with_path: bool) -> None:
    """Print one caption and its alternatives, as text or as a line of JSON."""
    if as_json:
        sys.stdout.write(json.dumps(caption_record(path, caption), ensure_ascii=False) + "\n")
        return
    line = caption.text if caption.finished else f"{caption.text} …"
    if caption.unusable is not None:
        line = f"[no usable caption: it {caption.unusable}] {caption.text}"
    if caption.unlike_training:
        sys.stderr.write(f"{path} is unlike the photos that the model knows: its caption is likely to be wrong.\n")
    sys.stdout.write(f"{path}: {line}".rstrip() + "\n" if with_path else line.rstrip() + "\n")
    for other in caption.alternatives:
        sys.stdout.write(f"  {other.log_prob:7.2f}  {other.text}\n")


def _write_plot(captioned: Sequence[tuple[Path, Caption]], resize: str, arguments: argparse.Namespace) -> None:
    """Write the plot of --plot; here, for without it captioning need not import the plotting library."""
    from captioner.data.images.decode import load_image
    from captioner.plots import attention_sheet

    attention_sheet(
        [load_image(path, stretch=caption.stretch) for path, caption in captioned],
        [caption for _, caption in captioned],
        arguments.plot,
        resize=resize,
        scale=arguments.scale,
        contour=arguments.contour,
    )
    sys.stderr.write(f"Written: {arguments.plot}\n")


def list_images(given: list[Path]) -> tuple[list[Path], list[Path]]:
    """The given files, and the images in the given folders, sorted by name; and the folders' other files.

    ImageError for a folder without images, and for the address of a web page.
    """
    from captioner.data.images.decode import IMAGE_SUFFIXES

    paths: list[Path] = []
    skipped: list[Path] = []
    for path in given:
        if re.match(r"(https?|ftp):/", str(path)):
            _reject_address(path)
        if not path.is_dir():
            paths.append(path)
            continue
        files = sorted(file for file in path.rglob("*") if file.is_file())
        inside = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
        others = [file for file in files if file.suffix.lower() not in IMAGE_SUFFIXES]
        if not inside:
            found = f" {describe_skipped(others)}" if others else ""
            raise ImageError(f"{path} contains no images (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).{found}")
        paths += inside
        skipped += others
    return paths, skipped


def _reject_address(path: Path) -> NoReturn:
    address = re.sub(":/+", "://", str(path), count=1)  # Path has removed a slash
    name = PurePosixPath(urlsplit(address).path).name or "photo.jpg"
    raise ImageError(
        f"{address} is an address on the web: captioner reads files only. Download it first: "
        f"curl -L -o {shlex.quote(name)} {shlex.quote(address)}, then give {shlex.quote(name)}."
    )


def describe_skipped(skipped: Sequence[Path]) -> str:
    """One line that names files which are not captioned, and what HEIC photos among them need."""
    from captioner.data.images.heif import HEIF_SUFFIXES

    names = ", ".join(path.name for path in skipped[:SHOWN]) + (" …" if len(skipped) > SHOWN else "")
    count = "1 file is" if len(skipped) == 1 else f"{len(skipped)} files are"
    heic = any(path.suffix.lower() in HEIF_SUFFIXES for path in skipped)
    advice = " For HEIC photos: pip install 'captioner[heic]'." if heic else ""
    return f"Skipped, because {count} not in an image format that can be read here: {names}.{advice}"
