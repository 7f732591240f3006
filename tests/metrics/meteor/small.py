"""METEOR with a few words of its own: it needs neither pycocoevalcap nor the seconds that its index takes."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import pytest

from captioner.metrics.meteor import paraphrases, resources
from captioner.metrics.meteor.meteor import Meteor

FUNCTION_WORDS = {"the", "of"}
SYNSETS = {"cat": "1 2", "dog": "3", "kitten": "2", "hound": "3 4", "wolf": "4"}
TABLE = [
    ("big cat", "lion"),
    ("the cat", "cat"),
    ("cat", "the cat"),
    ("dog of the", "the dog"),
    ("the dog", "dog of the"),
    ("wolf", "big dog"),
    ("big cat", "cat of"),
    ("lion", "big cat"),
    ("cat of the dog", "wolf lion"),
    ("cat", "lion"),
]
WORDS = ["the", "of", "cat", "cats", "dog", "dogs", "kitten", "hound", "wolf", "lion", "big"]


def small_meteor(folder: Path) -> Meteor:
    """METEOR with the resources above in the place of the jar's, written to `folder`."""
    with zipfile.ZipFile(folder / "jar", "w") as jar:
        jar.writestr("function/english.words", "\n".join(FUNCTION_WORDS))
        jar.writestr("nonbreaking/english.prefixes", "Mr\n")
        jar.writestr("synonym/english.synsets", "".join(f"{word}\n{synsets}\n" for word, synsets in SYNSETS.items()))
        jar.writestr("synonym/english.exceptions", "")
    table = "".join(f"0.5\n{phrase}\n{paraphrase}\n" for phrase, paraphrase in TABLE)
    (folder / "table").write_bytes(gzip.compress(table.encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "find_in_pycocoevalcap", lambda metric, name: folder / "jar")
        patch.setattr(paraphrases, "find_in_pycocoevalcap", lambda metric, name: folder / "table")
        return Meteor(folder / "cache")
