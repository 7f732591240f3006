"""The one exception that people are meant to read, and the sentence that helps them.

Everything a person can get wrong (an option, a path, a file, an image, a checkpoint) is raised as a
`CaptionerError`; the command line prints its sentence and leaves with exit code 2. Every other
exception is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaptionerError(Exception):
    """What was wrong, where, what was expected and what to do, in a sentence or two."""


class ConfigError(CaptionerError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class DataError(CaptionerError):
    """A data set, annotation file or split that cannot be used as it is."""


class ImageError(DataError):
    """An image that cannot be decoded; the message names the file."""


class CheckpointError(CaptionerError):
    """A checkpoint that is missing, incomplete, altered or of a version this release cannot read."""


class TrainingError(CaptionerError):
    """A training that cannot go on, such as one whose loss is not a number any more."""


class StorageError(CaptionerError):
    """A file of a run that could not be written: the disk is full, read-only or gone."""


class RankLostError(CaptionerError):
    """Another process of the same job has ended (`is_ended`) or does not answer, and this one cannot go on alone."""

    def __init__(self, message: str, *, is_ended: bool = True) -> None:
        super().__init__(message)
        self.is_ended = is_ended


class WeightsError(CaptionerError):
    """Pretrained weights that cannot be had; the message names the alternatives."""


def near_misses(wrong: str, valid: Iterable[str], most: int = 3) -> str:
    """' Did you mean a, b?' for the valid names that look like `wrong`, in whatever case, or ''."""
    spelled = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(wrong.lower(), spelled, n=most, cutoff=0.6)
    return f" Did you mean {', '.join(spelled[name] for name in near)}?" if near else ""


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """`name` itself where it is one of `valid`; otherwise a ConfigError that lists and suggests.

    `kind` is what the setting is called in the message, for example "model.cell".
    """
    options = sorted(valid)
    if name not in options:
        raise ConfigError(
            f"{kind}={name!r} does not exist.{near_misses(str(name), options)} Choose one of: {', '.join(options)}."
        )
    return name
