"""Registries of what settings choose by name: built-in items, and those that installed packages add by entry point.

Decoders, encoders, cells, data sets and metrics have one registry each. The settings' schema, the lists in `--help` and
in the documentation, and the tests that try every choice read the registries, so a new item edits no list.
docs/extending.md shows how to add one, in captioner or in another package.

No item is imported before it is chosen: a built-in item may be given as "module:attribute", and an entry point is
loaded when its name is used.
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
    """The object that "package.module:attribute" names, or the module where the attribute is left out.

    Raises ImportError or AttributeError where there is none.
    """
    module, _, attribute = reference.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


class Registry(Generic[T]):
    """Name → item. Iteration gives the names in order: built-in, registered in Python, plug-ins sorted by name.

    setting: the setting whose value is the name, such as "model.name", for messages.
    group: the entry point group of plug-ins, such as "captioner.decoders".
    built_in: name → item, or "module:attribute" for an item that is imported when it is chosen.
    """

    def __init__(self, setting: str, group: str, built_in: Mapping[str, T | str] | None = None) -> None:
        self.setting = setting
        self.group = group
        self._items: dict[str, T | str] = dict(built_in or {})
        self._built_in = frozenset(self._items)
        self._plugins: dict[str, list[EntryPoint]] | None = None

    def register(self, name: str, item: T) -> T:
        """Add an item and return it. ConfigError where the name is taken; no item is replaced."""
        if name in self:
            raise ConfigError(
                f"{self.setting}={name} is taken: register {item!r} under another name. "
                f"Taken: {', '.join(sorted(self))}."
            )
        self._items[name] = item
        return item

    def unregister(self, name: str) -> None:
        """Remove an item that `register` added."""
        del self._items[name]

    def __getitem__(self, name: str) -> T:
        """The item called `name`. ConfigError where there is none, or more than one, or the import fails."""
        choose(self.setting, name, self)
        found = self._entry_points().get(name, [])
        if len(found) + (name in self._items) > 1:
            owners = [_package(point) for point in found] + (["captioner itself"] if name in self._items else [])
            raise ConfigError(
                f"{self.setting}={name} is provided by {' and by '.join(owners)}, and only one may provide it. "
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
            with contextlib.suppress(ConfigError):  # raised when the name is chosen
                items[name] = self[name]
        return items

    def additions(self) -> tuple[str, ...]:
        """The names that are not built in: registered in Python, or provided by installed packages."""
        return tuple(name for name in self if name not in self._built_in)

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
