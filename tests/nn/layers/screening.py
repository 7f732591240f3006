"""Screening of small vocabularies, for tests."""

from __future__ import annotations

import pytest

from captioner.nn.layers import linear, word_screen


def screen_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let words of every vocabulary be screened, whether that is faster or not."""
    monkeypatch.setattr(linear, "_FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(word_screen, "_FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(word_screen, "_is_faster", lambda: True)
