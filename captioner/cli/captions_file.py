"""The file of `caption.py --out`: one JSON object per line and photo, continued where a stopped command ended."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from captioner.config import DecodeConfig
from captioner.data.features.locks import lock_open_file
from captioner.errors import CaptionerError, ImageError
from captioner.progress_bar import Progress
from captioner.schema import to_plain

if TYPE_CHECKING:
    from captioner.captioning.base_captioner import BaseCaptioner
    from captioner.generated_caption import Caption


class CaptionsFile:
    """A context in which `write` appends captions to `path`, each as soon as it is known.

    made_by: what decides the captions, the model and its search; it is in every line. `done` has the paths of the
    photos that the file had when it was opened. A line that a stopped command did not finish is removed.

    Raises CaptionerError for a file that is something else or is of another model or search, or that another command
    is writing. OSError where it cannot be written.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any]) -> None:
        self.path, self.made_by = path, dict(made_by)
        self._file = path.open("a+b")
        try:
            if not lock_open_file(self._file):
                raise CaptionerError(f"{path} is being written by another command. Wait for it, or name another file.")
            self.done = self._read()
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> set[str]:
        """The photos in the file. Cuts an unfinished last line off."""
        self._file.seek(0)
        done: set[str] = set()
        end = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                self._file.truncate(end)
                break
            done.add(self._photo(line, number))
            end += len(line)
        self._file.seek(0, os.SEEK_END)
        return done

    def _photo(self, line: bytes, number: int) -> str:
        """The path in a line. CaptionerError unless this model and search wrote it."""
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not isinstance(record.get("path"), str) or "caption" not in record:
            raise CaptionerError(
                f"{self.path} line {number} is no caption that this command wrote: name another file with --out."
            )
        for key, value in self.made_by.items():
            if record.get(key) != value:
                raise CaptionerError(
                    f"{self.path} line {number} has {key}={json.dumps(record.get(key))}, but this command would write "
                    f"{json.dumps(value)}: the captions of one file are of one model and search. "
                    "Name another file with --out."
                )
        return str(record["path"])

    def write(self, record: Mapping[str, Any]) -> None:
        """Append the record of a photo."""
        whole = {**record, **self.made_by}
        try:
            line = json.dumps(whole, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:  # a path that is no text
            line = json.dumps(whole).encode("ascii")
        try:
            self._file.write(line + b"\n")
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def __enter__(self) -> CaptionsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def describe_resumed(path: Path, done: set[str], photos: Iterable[Path]) -> str | None:
    """What the file has already, and what of it is not among `photos` now; None for a file that was empty."""
    if not done:
        return None
    missing = sorted(done - {str(photo) for photo in photos})
    known = len(done) - len(missing)
    line = f"{path} has the captions of {known:,} of these photos already, which are left out."
    if missing:
        line += (
            f" It also has {len(missing):,} that are not among them now, such as {missing[0]}; their lines are kept."
        )
    return line


def caption_record(path: Path, caption: Caption) -> dict[str, Any]:
    """What `--json` and `--out` say of a caption."""
    return {
        "path": str(path),
        "caption": caption.text,
        "log_prob": caption.log_prob,
        "finished": caption.finished,
        "unusable": caption.unusable,
        "confidence": caption.confidence,
        "unlike_training": caption.unlike_training,
        "tags": None if caption.tags is None else [tag._asdict() for tag in caption.tags],
        "alternatives": [{"caption": c.text, "log_prob": c.log_prob} for c in caption.alternatives],
    }


def caption_to_file(
    captioner: BaseCaptioner[Any, Any], paths: Sequence[Path], decode: DecodeConfig, arguments: argparse.Namespace
) -> int:
    """Write the captions of all `paths` that `--out` does not have yet; returns how many images could not be read.

    One that could not be read has no line, so the next command tries it again. arguments: those of caption.py.
    """
    out: Path = arguments.out
    more = {"alternatives": arguments.alternatives, "must_have": arguments.must_have, "must_not": arguments.must_not}
    with CaptionsFile(out, made_by(captioner, decode, more)) as file:
        if line := describe_resumed(out, file.done, paths):
            sys.stderr.write(line + "\n")
        remaining = [path for path in paths if str(path) not in file.done]
        captions = captioner.caption_each(remaining, decode=decode, tags=not arguments.no_tags, **more)
        unreadable = 0
        try:
            with Progress(len(remaining), "captions", keep=True) as progress:
                for path, caption in zip(remaining, captions, strict=True):
                    if isinstance(caption, ImageError):
                        progress.note(f"error: {caption}")
                        unreadable += 1
                    else:
                        file.write(caption_record(path, caption))
                    progress.update()
        except KeyboardInterrupt:
            sys.stderr.write(f"\nThe captions so far are in {out}; the same command goes on from there.\n")
            raise
    written = len(remaining) - unreadable
    sys.stderr.write(f"Written: {written:,} {'caption' if written == 1 else 'captions'} to {out}\n")
    return unreadable


def made_by(captioner: BaseCaptioner[Any, Any], decode: DecodeConfig, more: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the captions: the model, by name and by its weights, and the settings of the search, and `more`."""
    defaults = to_plain(DecodeConfig())
    search = {key: value for key, value in to_plain(decode).items() if key == "name" or value != defaults[key]}
    search |= {key: value for key, value in more.items() if value}
    return {"model": captioner.identity, "search": search}
