"""Shared by the text tests: the official tokenizer, where it can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from captioner.errors import CaptionerError
from captioner.text.java_ptb import find_jar, find_java, java_ptb_tokenize_all

TokenizeAll = Callable[[Sequence[str]], list[list[str]]]


@pytest.fixture(scope="session")
def java() -> TokenizeAll:
    """The official tokenizer. Every caption is followed by one that begins with "A": the same context for all."""
    try:
        find_jar(), find_java()
    except CaptionerError as missing:
        pytest.skip(str(missing))
    return lambda captions: java_ptb_tokenize_all([line for caption in captions for line in (caption, "A cat")])[::2]
