"""The settings of a search: conf/decode/ and docs/decoding.md list all of them."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import yaml

from captioner.config import USED_BY, DecodeConfig

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


@pytest.mark.parametrize("name", DecodeConfig.choices["name"])
def test_a_description_names_every_setting_that_changes_the_search(name: str) -> None:
    changed = {"max_length": 17, "beam_width": 6, "groups": 2, "top_p": 0.9, "typical_p": 0.9, "min_p": 0.1}
    changed |= {"temperature": 0.7, "repetition_penalty": 1.5, "degeneration_penalty": 0.4}
    plain = DecodeConfig(name=name)
    for field in fields(DecodeConfig):
        if field.name == "name":
            continue
        default = getattr(plain, field.name)
        other = changed.get(field.name, not default if isinstance(default, bool) else default + 1)
        if (name, field.name) == ("diverse", "groups"):
            other = 1
        found = replace(plain, **{field.name: other})
        if name not in USED_BY.get(field.name, (name,)):
            assert found.described == plain.described
            assert found.read_settings == plain.read_settings
            continue
        assert f"{field.name}={str(other).lower().removesuffix('.0')}" in found.described
        assert len(found.described) == len(set(found.described))
        assert found.read_settings != plain.read_settings
