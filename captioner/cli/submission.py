"""`python -m captioner submission FILE …`: check files of captions for a test server, and pack them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from captioner.cli.flags import FlagParser, add_json
from captioner.cli.main import run_command
from captioner.data.dataset import ImageId
from captioner.errors import ConfigError, DataError
from captioner.evaluation.submission import FILE_NAME, check_submission, image_ids_of, pack_submission


def main() -> None:
    """The entry point."""
    sys.exit(run_command(lambda: _submission(_parser().read(sys.argv[1:] or ["--help"]))))


def _parser() -> FlagParser:
    parser = FlagParser(
        "submission",
        "Check files of captions for a test server: a list of {image_id, caption}, integer ids, all images.\n"
        "COCO's server wants captions_val2014_NAME_results.json and captions_test2014_NAME_results.json in one zip.",
        [
            "submission captions_test2014_NAME_results.json --images annotations/image_info_test2014.json",
            "submission captions_val2014_NAME_results.json captions_test2014_NAME_results.json --zip results.zip",
        ],
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files of captions")
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="for each file, the list of its images (image_info_test2014.json): all of them must have a caption",
    )
    parser.add_argument("--zip", type=Path, metavar="FILE", help="pack the files, if the check finds nothing")
    add_json(parser, "print what was found as JSON")
    return parser


def _submission(arguments: argparse.Namespace) -> None:
    files: list[Path] = arguments.files
    images: list[Path] = arguments.images
    if images and len(images) != len(files):
        raise ConfigError(f"--images names {len(images)} files for {len(files)} files of captions: give one for each.")
    for path in (*files, *images):
        if not path.is_file():
            raise DataError(f"{path} is not a file.")
    _check_zip(files, arguments.zip)
    found = {}
    for number, file in enumerate(files):
        image_ids: list[ImageId] | None = image_ids_of(images[number]) if images else None
        found[str(file)] = check_submission(file, image_ids)
    wrong = any(found.values())
    if arguments.zip is not None and not wrong:
        pack_submission(files, arguments.zip)
    if arguments.json:
        notes = {str(file): _name_note(file) for file in files}
        record = [{"file": file, "problems": problems, "note": notes[file]} for file, problems in found.items()]
        sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(files, found, arguments.zip, has_images=bool(images))
    if wrong:
        packed = "" if arguments.zip is None else " Nothing was packed."
        raise DataError(f"A test server would not accept these files.{packed}")


def _check_zip(files: list[Path], archive: Path | None) -> None:
    """ConfigError for a zip that could not hold these files, or would replace another file."""
    if archive is None:
        return
    if archive.suffix.lower() != ".zip":
        raise ConfigError(f"--zip {archive}: expected a name that ends in .zip.")
    if archive.exists():
        raise ConfigError(f"--zip {archive} exists, and nothing is overwritten: give another name, or remove it.")
    if not archive.parent.is_dir():
        raise ConfigError(f"--zip {archive}: the folder {archive.parent} does not exist.")
    if len({file.name for file in files}) < len(files):
        raise ConfigError("Two of these files have the same name, and a zip for a server has no folders: rename one.")


def _print(files: list[Path], found: dict[str, list[str]], archive: Path | None, *, has_images: bool) -> None:
    for file in files:
        for problem in found[str(file)]:
            sys.stdout.write(f"{file}: {problem}\n")
        if not found[str(file)]:
            every = " for every image" if has_images else " (with --images: whether every image has one)"
            sys.stdout.write(f"{file}: {len(json.loads(file.read_bytes())):,} captions with integer ids{every}\n")
        if note := _name_note(file):
            sys.stdout.write(f"{file}: {note}\n")
    if archive is not None and archive.is_file():
        sys.stdout.write(f"Written: {archive}\n")


def _name_note(file: Path) -> str:
    if FILE_NAME.fullmatch(file.name):
        return ""
    return "COCO's server wants the name captions_SPLIT_NAME_results.json, such as captions_test2014_soft_results.json."
