"""The phrase statistics of the training captions, as a file of a checkpoint: plain arrays, never executed."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from captioner.errors import CheckpointError
from captioner.files import write_atomically
from captioner.text.phrases import PhraseStatistics

PHRASES_FILE = "phrases.npz"


def save_phrases(phrases: PhraseStatistics, path: Path) -> int:
    """Write statistics to `path`; equal ones give equal bytes. Returns the number of bytes. Raises OSError."""
    archive = io.BytesIO()
    np.savez_compressed(archive, allow_pickle=False, **phrases.to_arrays())
    write_atomically(path, archive.getvalue())
    return len(archive.getvalue())


def load_phrases(path: Path) -> PhraseStatistics:
    """The statistics that `save_phrases` wrote. CheckpointError where the file cannot be read or has other content."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            return PhraseStatistics.from_arrays(archive)
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckpointError(f"{path} cannot be read as phrase statistics ({error}).") from error
