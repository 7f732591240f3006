"""Things that are chosen by name: our own, and those that installed packages add by entry point.

There is one registry each for decoders, encoders, data sets and metrics. The schema of the settings, the lists in
`--help` and in the documentation, and the tests that try every choice are made from the registries, so adding a
choice edits no list. docs/extending.md shows how to add one, here or from another package.

Nothing is imported before it is chosen: a built-in item may be given as "module:attribute", and an entry point is
loaded when its name is asked for.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from captioner.errors import ConfigError, choose

T = TypeVar("T")


def load_object(reference: str) -> Any:
    """The object that "package.module:attribute" names; the module itself where there is no attribute."""
    module, _, attribute = reference.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


class Registry(Generic[T]):
    """Name → item, in this order: the built-in ones, those registered from Python, and the plug-ins by name.

    setting: the setting that chooses, as in "model.name", for messages; group: the entry points' group, as in
    "captioner.decoders"; built_in: name → item, or "module:attribute" for an item that is imported when it is chosen.
    """

    def __init__(self, setting: str, group: str, built_in: Mapping[str, T | str] | None = None) -> None:
        self.setting = setting
        self.group = group
        self._items: dict[str, T | str] = dict(built_in or {})
        self._built_in = frozenset(self._items)
        self._plugins: dict[str, list[EntryPoint]] | None = None

    def register(self, name: str, item: T) -> T:
        """Add an item from Python; returns it. ConfigError where the name is taken: nothing is ever replaced."""
        if name in self:
            raise ConfigError(
                f"{self.setting}={name} is taken already: register {item!r} under another name. "
                f"Taken: {', '.join(sorted(self))}."
            )
        self._items[name] = item
        return item

    def unregister(self, name: str) -> None:
        """Take back what `register` added; for tests and notebooks."""
        del self._items[name]

    def __getitem__(self, name: str) -> T:
        """The item of this name; ConfigError where there is none, several, or one that cannot be imported."""
        choose(self.setting, name, self)
        found = self._entry_points().get(name, [])
        if len(found) + (name in self._items) > 1:
            owners = [_package(point) for point in found] + (["captioner itself"] if name in self._items else [])
            raise ConfigError(
                f"{self.setting}={name} is provided by {' and by '.join(owners)}: which one is meant cannot be told. "
                "Uninstall one of these packages, or rename its entry point."
            )
        if not found:
            item = self._items[name]
            return load_object(item) if isinstance(item, str) else item
        try:
            loaded: T = found[0].load()
        except Exception as error:  # importing the code of another package may raise anything
            raise ConfigError(
                f"{self.setting}={name} cannot be used: the entry point {found[0].value} of {_package(found[0])} "
                f"fails to import ({type(error).__name__}: {error}). Repair or uninstall that package."
            ) from error
        return loaded

    def loadable(self) -> dict[str, T]:
        """Name → item, for lists. Leaves out the plug-ins that cannot be used: `registry[name]` raises why."""
        items: dict[str, T] = {}
        for name in self:
            with contextlib.suppress(ConfigError):  # raised where the name is chosen
                items[name] = self[name]
        return items

    def additions(self) -> tuple[str, ...]:
        """The names that are not built in: registered from Python, or provided by installed packages."""
        return tuple(name for name in dict.fromkeys([*self._items, *self.plugins()]) if name not in self._built_in)

    def plugins(self) -> tuple[str, ...]:
        """The names that installed packages provide."""
        return tuple(self._entry_points())

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._items, *self._entry_points()]))

    def __contains__(self, name: object) -> bool:
        return name in self._items or name in self._entry_points()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        """Name → the entry points of that name; read once, because that searches all installed packages."""
        if self._plugins is None:
            self._plugins = {}
            for point in sorted(entry_points(group=self.group), key=lambda point: (point.name, point.value)):
                self._plugins.setdefault(point.name, []).append(point)
        return self._plugins


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name}" if point.dist is not None else point.value
