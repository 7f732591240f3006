"""Calling the official tokenizer: every caption gets its own tokens, nothing is left on disk, errors say what to do."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from captioner.config import TokenizerConfig
from captioner.errors import CaptionerError
from captioner.text import build_tokenizer, java_ptb
from captioner.text.java_ptb import find_jar, java_ptb_tokenize_all
from tests.text.conftest import TokenizeAll


@pytest.mark.usefixtures("java")
def test_equals_python() -> None:
    captions = ["A dog isn't riding Mr. Li's horse.", "", "Two (2) men: half a cup."]
    official, ours = build_tokenizer(TokenizerConfig(backend="java")), build_tokenizer(TokenizerConfig())
    assert official.tokenize_all(captions) == ours.tokenize_all(captions)
    assert official.tokenize_all([]) == []
    assert official.version == "corenlp-3.4.1"


@pytest.mark.usefixtures("java")
def test_equals_pycocoevalcap() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    captions = [
        "A man (left) and 'his' dog.",
        'He said "hi"... at 5:30 p.m. in the U.S.',
        "no punctuation",
        "sign of K.",
    ]
    theirs = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    assert [" ".join(tokens) for tokens in java_ptb_tokenize_all(captions)] == [
        theirs[i][0] for i in range(len(captions))
    ]


@pytest.mark.usefixtures("java")
@pytest.mark.parametrize("inside", ["\n", "\r", "\v", "\f", "\u2028", "\u2029", "\x85", "\0", "\ud800", "*NL*"])
def test_no_character_shifts_tokens_to_another_caption(inside: str) -> None:
    captions = ["one dog", f"two{inside}dogs", "three dogs"]
    tokens = java_ptb_tokenize_all(captions)
    assert len(tokens) == 3
    assert tokens[0] == ["one", "dog"]
    assert tokens[1][0].startswith("two")
    assert tokens[2] == ["three", "dogs"]


def test_nothing_is_written_next_to_the_jar(java: TokenizeAll, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(find_jar().parent.iterdir())
    java(["a dog"])
    assert sorted(find_jar().parent.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_says_what_to_install_without_the_jar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CaptionerError, match=r"pip install 'captioner\[meteor\]'"):
        build_tokenizer(TokenizerConfig(backend="java"))


def test_says_what_to_install_without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_ptb, "find_jar", lambda: Path("jar"))
    monkeypatch.setattr("captioner.text.tokenizers.find_jar", lambda: Path("jar"))
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(CaptionerError, match="Java runtime"):
        build_tokenizer(TokenizerConfig(backend="java"))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("echo 'no room for the heap' >&2; exit 1", "no room for the heap"),
        ("echo one; echo two", "2 lines for 1 captions"),
    ],
)
def test_a_java_that_fails_is_an_error(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "java"
    broken.write_text(f"#!/bin/sh\n{program}\n")
    broken.chmod(0o755)
    monkeypatch.setattr(java_ptb, "find_jar", lambda: Path("jar"))
    monkeypatch.setattr(java_ptb, "find_java", lambda: str(broken))
    with pytest.raises(CaptionerError, match=message):
        java_ptb_tokenize_all(["a dog"])
