"""Registries: names, plug-ins, and one message for each mistake."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from captioner.errors import ConfigError
from captioner.registry import Registry, load_object

GROUP = "captioner_test.things"


@pytest.fixture
def registry() -> Registry[object]:
    return Registry("thing.name", GROUP, {"sum": "math:fsum", "letters": "string:ascii_letters"})


def install(folder: Path, package: str, monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    """Put a distribution on sys.path that declares these entry points, as pip would install it."""
    metadata = folder / package / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in points.items()]
    (metadata / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]))
    monkeypatch.syspath_prepend(str(folder / package))


def test_built_in_items_are_loaded_when_they_are_chosen(registry: Registry[object]) -> None:
    import math

    assert list(registry) == ["sum", "letters"]
    assert len(registry) == 2
    assert registry["sum"] is math.fsum
    assert "sum" in registry
    assert "mean" not in registry


def test_a_module_is_not_imported_before_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "this", raising=False)
    registry: Registry[object] = Registry("thing.name", GROUP, {"zen": "this:s"})
    assert "zen" in registry
    assert "this" not in sys.modules


def test_load_object_takes_a_module_or_an_attribute() -> None:
    import string

    assert load_object("string") is string
    assert load_object("string:ascii_letters") == string.ascii_letters


def test_an_unknown_name_has_near_misses(registry: Registry[object]) -> None:
    with pytest.raises(ConfigError, match=r"^thing.name='leters' does not exist. Did you mean letters\? Choose one of"):
        registry["leters"]


def test_register_adds_and_unregister_removes(registry: Registry[object]) -> None:
    assert registry.register("mine", 3) == 3
    assert registry["mine"] == 3
    assert list(registry) == ["sum", "letters", "mine"]
    assert registry.additions() == ("mine",)
    registry.unregister("mine")
    assert "mine" not in registry


@pytest.mark.parametrize("name", ["sum", "mine"])
def test_register_replaces_nothing(registry: Registry[object], name: str) -> None:
    registry.register("mine", 3)
    before = registry[name]
    with pytest.raises(ConfigError, match=rf"^thing.name={name} is taken"):
        registry.register(name, 4)
    assert registry[name] is before


def test_a_plug_in_is_found_and_loaded_by_name(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plugin_a", monkeypatch, digits="string:digits")
    assert registry["digits"] == "0123456789"
    assert registry.plugins() == ("digits",)
    assert registry.additions() == ("digits",)
    with pytest.raises(ConfigError, match=r"^thing.name=digits is taken"):
        registry.register("digits", 4)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "ModuleNotFoundError: No module named 'plugin_code'"),
        ("raise ValueError('no such driver')", "ValueError: no such driver"),
        ("", "AttributeError: module 'plugin_code' has no attribute 'item'"),
    ],
)
def test_a_plug_in_that_fails_to_import_names_its_package(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    install(tmp_path, "plugin_a", monkeypatch, broken="plugin_code:item", digits="string:digits")
    if content is not None:
        (tmp_path / "plugin_a" / "plugin_code.py").write_text(content)
    with pytest.raises(ConfigError) as caught:
        registry["broken"]
    sys.modules.pop("plugin_code", None)
    assert str(caught.value) == (
        "thing.name=broken cannot be used: the entry point plugin_code:item of the package plugin_a fails to import "
        f"({reason}). Repair or uninstall that package."
    )
    assert registry["digits"] == "0123456789"  # the others can still be used
    assert list(registry.loadable()) == ["sum", "letters", "digits"]


def test_two_plug_ins_of_one_name_exclude_each_other(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plugin_a", monkeypatch, digits="string:digits", letters_too="string:ascii_letters")
    install(tmp_path, "plugin_b", monkeypatch, digits="string:hexdigits")
    with pytest.raises(ConfigError) as caught:
        registry["digits"]
    assert str(caught.value).startswith("thing.name=digits is provided by the package plugin_a and by the package plug")
    assert "Uninstall one of these packages" in str(caught.value)
    assert list(registry) == ["sum", "letters", "digits", "letters_too"]


def test_a_plug_in_does_not_replace_a_built_in_item(
    registry: Registry[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "plugin_a", monkeypatch, sum="string:digits")
    with pytest.raises(ConfigError, match=r"is provided by the package plugin_a and by captioner itself"):
        registry["sum"]
