"""METEOR's English resources, read from the jar of an installed pycocoevalcap: no Java is needed for that.

function words    93 words that count less                      function/english.words
abbreviations     words that keep their period                  nonbreaking/english.prefixes
synsets           word → numbers of its WordNet synsets         synonym/english.synsets
exceptions        irregular form → its base forms               synonym/english.exceptions
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from captioner.metrics.java import MetricUnavailable, find_in_pycocoevalcap

JAR = "meteor/meteor-1.5.jar"
PARAPHRASES = "meteor/data/paraphrase-en.gz"
_NUMBERS_ONLY = "#NUMERIC_ONLY#"


@dataclass(frozen=True, eq=False)
class Resources:
    """What METEOR knows about English words.

    abbreviations: word → whether it keeps its period before a number only. synsets: word → its synsets, as text until
    they are asked for, since most never are.
    """

    function_words: frozenset[str]
    abbreviations: Mapping[str, bool]
    synsets: Mapping[str, str]
    exceptions: Mapping[str, tuple[str, ...]]


def load_resources() -> Resources:
    """The resources of the installed jar. Raises MetricUnavailable where it is missing or damaged."""
    return _read(find_in_pycocoevalcap("METEOR", JAR))


@lru_cache(maxsize=1)
def _read(jar: Path) -> Resources:
    try:
        with zipfile.ZipFile(jar) as archive:
            function_words = frozenset(_lines(archive, "function/english.words"))
            prefixes = _lines(archive, "nonbreaking/english.prefixes")
            synsets = _pairs(archive, "synonym/english.synsets")
            forms = _pairs(archive, "synonym/english.exceptions")
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise MetricUnavailable(
            f"METEOR's resources in {jar} cannot be read ({error}). "
            "Install the package again: pip install --force-reinstall --no-deps pycocoevalcap."
        ) from error
    exceptions: dict[str, tuple[str, ...]] = {}
    for base, irregular in forms.items():
        for form in irregular.split():
            exceptions[form] = (*exceptions.get(form, ()), base)
    abbreviations = {
        line.split()[0]: line.endswith(_NUMBERS_ONLY) for line in prefixes if line and not line.startswith("#")
    }
    return Resources(function_words, abbreviations, synsets, exceptions)


def _lines(archive: zipfile.ZipFile, name: str) -> list[str]:
    return [line.strip() for line in archive.read(name).decode("utf-8").splitlines()]


def _pairs(archive: zipfile.ZipFile, name: str) -> dict[str, str]:
    """A file of two lines an entry."""
    lines = archive.read(name).decode("utf-8").splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))
