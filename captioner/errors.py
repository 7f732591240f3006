"""The errors that users are meant to read, and helpers for their messages.

Everything a user can get wrong (an option, a path, a file, an image, a checkpoint) is raised as a `CaptionerError`. The
command line prints its message, without a traceback, and exits with code 2. Every other exception is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaptionerError(Exception):
    """What was wrong, where, what was expected, and what to do about it, in one or two sentences."""


class ConfigError(CaptionerError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class DataError(CaptionerError):
    """A data set, annotation file or split that cannot be used."""


class ImageError(DataError):
    """An image that cannot be decoded; the message names the file."""


class CheckpointError(CaptionerError):
    """A checkpoint that is missing, incomplete, altered, or of a version that this release cannot read."""


class MisfitError(CheckpointError):
    """Weights that have other names or shapes than those of the model that the settings describe."""


class TrainingError(CaptionerError):
    """Training that cannot continue, for example because the loss is NaN."""


class StorageError(CaptionerError):
    """A file of a run that could not be written: the disk is full, read-only or gone."""


class RankLostError(CaptionerError):
    """Another process of the job has ended (`is_ended`) or does not answer, and this one cannot continue alone."""

    def __init__(self, message: str, *, is_ended: bool = True) -> None:
        super().__init__(message)
        self.is_ended = is_ended


class WeightsError(CaptionerError):
    """Pretrained weights that are not available; the message names the alternatives."""


def near_misses(wrong: str, valid: Iterable[str], most: int = 3) -> str:
    """' Did you mean a, b?' for up to `most` of the valid names that are similar to `wrong`, ignoring case, or ''."""
    spelled = {name.lower(): name for name in valid}
    near = difflib.get_close_matches(wrong.lower(), spelled, n=most, cutoff=0.6)
    return f" Did you mean {', '.join(spelled[name] for name in near)}?" if near else ""


def choose(kind: str, name: str, valid: Iterable[str]) -> str:
    """Return `name` if it is one of `valid`; otherwise raise a ConfigError that lists them and suggests near misses.

    `kind` is the setting's name in the message, for example "model.cell".
    """
    options = sorted(valid)
    if name not in options:
        raise ConfigError(
            f"{kind}={name!r} does not exist.{near_misses(str(name), options)} Choose one of: {', '.join(options)}."
        )
    return name
