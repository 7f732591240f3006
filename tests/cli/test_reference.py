"""What is generated from the settings: the pages of docs/reference."""

from __future__ import annotations

import re

import pytest

from captioner.cli.choices import CONF
from captioner.cli.reference_pages import models_page, settings_page
from captioner.cli.write_reference import PAGES, REFERENCE
from captioner.config.explain import COMMANDS, all_settings


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_current(name: str) -> None:
    """Where this fails: `make reference` writes them."""
    assert (REFERENCE / name).read_text(encoding="utf-8") == PAGES[name]()


def test_every_setting_has_a_row() -> None:
    rows = set(re.findall(r"^\| `([\w.]+)`", settings_page() + models_page(), flags=re.MULTILINE))
    missing = {setting.name for command in COMMANDS for setting in all_settings(command)} - rows
    assert not missing


def test_every_model_has_a_row_and_every_link_a_heading() -> None:
    page = models_page()
    for path in (CONF / "model").glob("*.yaml"):
        assert f"\n| `model={path.stem}` |" in page
    for text in (page, settings_page()):
        titles = re.findall(r"^## ([^{\n]+?)(?: \{#(.+)\})?$", text, flags=re.MULTILINE)
        links = set(re.findall(r"\]\(#([^)]+)\)", text))
        assert links
        assert links <= {anchor or title for title, anchor in titles}
