"""The settings of a search: conf/decode/ and docs/decoding.md list all of them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from captioner.config import DecodeConfig

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "conf" / "decode").glob("*.yaml"))


def test_there_is_a_file_for_every_search() -> None:
    assert [path.stem for path in FILES] == sorted(DecodeConfig.choices["name"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_holds_the_defaults_and_explains_every_setting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text) == asdict(DecodeConfig(name=path.stem))
    for line in text.splitlines():
        assert "#" in line, f"no comment: {line}"


def test_the_documentation_defines_every_setting() -> None:
    text = (ROOT / "docs" / "decoding.md").read_text(encoding="utf-8")
    missing = [field.name for field in fields(DecodeConfig) if f"`{field.name}`" not in text]
    assert missing == []
