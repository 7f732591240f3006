"""Hydra composes the same files for hundreds of tests: what the chosen files give together is kept for all of them.

Only that part, which is most of the time that composing takes. Options that set values are read and applied each time.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import hydra._internal.defaults_list
import pytest
from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra.core.config_store import ConfigNode, ConfigStore

from captioner.cli.choices import CONF
from captioner.cli.hydra_versions import VERSION_BASE

_kept: dict[Hashable, tuple[bytes, object]] = {}
"""What the files give, and what must not be freed while it is kept: an object's id is part of the key."""


def keep_composed_settings(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra 1.3 compose each choice of files once, until `patch` is undone; other versions compose as they do."""
    if VERSION_BASE:
        for owner, name, wrap in (
            (config_loader_impl, "create_defaults_list", _kept_defaults),
            (ConfigLoaderImpl, "_compose_config_from_defaults_list", _kept_config),
            (ConfigRepository, "load_config", _kept_files),
            (hydra._internal.defaults_list, "_create_interpolation_map", _if_a_name_is_interpolated),
        ):
            patch.setattr(owner, name, wrap(getattr(owner, name)))
        patch.setattr(CachingConfigRepository, "__init__", _with_cache)


def _kept_defaults(original: Callable[..., Any]) -> Callable[..., Any]:
    """`create_defaults_list`: the files that options choose, and the options that set values."""

    def create(repo: Any, config_name: Any, overrides_list: list[Any], **options: Any) -> Any:
        values = [one for one in overrides_list if _sets_a_value(one, repo)]
        if any(one.is_sweep_override() for one in overrides_list):
            return original(repo=repo, config_name=config_name, overrides_list=overrides_list, **options)
        files = [one for one in overrides_list if not any(one is value for value in values)]

        def make() -> Any:
            return original(repo=repo, config_name=config_name, overrides_list=files, **options)

        choices = (config_name, *(one.input_line for one in files), *sorted(options.items()))
        found = _keep(("defaults", *choices), repo, make)
        found.config_overrides = values
        return found

    return create


def _kept_files(original: Callable[..., Any]) -> Callable[..., Any]:
    """The method of Hydra's repository of files that reads one."""

    def load_config(self: Any, config_path: str) -> Any:
        return _keep(("file", config_path), self, lambda: original(self, config_path))

    return load_config


def _if_a_name_is_interpolated(original: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose result Hydra reads for names of files with `${…}` only, and which costs as much as merging."""

    def create_interpolation_map(overrides: Any, defaults_list: list[Any], self_added: bool) -> Any:
        if any(one.is_interpolation() for one in defaults_list):
            return original(overrides, defaults_list, self_added)
        return None

    return create_interpolation_map


def _with_cache(self: Any, delegate: Any) -> None:
    """`CachingConfigRepository.__init__`, whose deep copy has all of Hydra's store in it: only `sources` change."""
    self.delegate = copy.copy(delegate)
    self.cache = {}


def _sets_a_value(override: Any, repo: Any) -> bool:
    """As Hydra decides whether an option sets a value, not a choice of a file."""
    return not repo.group_exists(override.key_or_group) or isinstance(override.value(), dict)


def _kept_config(original: Callable[..., Any]) -> Callable[..., Any]:
    """The method of Hydra's loader that merges the files."""

    def compose(self: Any, defaults: list[Any], repo: Any) -> Any:
        return _keep(("config", repr(defaults)), repo, lambda: original(self, defaults=defaults, repo=repo))

    return compose


def _keep(key: tuple[Hashable, ...], repo: Any, make: Callable[[], Any]) -> Any:
    """What `make` makes from the sources of `repo`: a copy of its own for each caller. Errors are not kept."""
    sources = [(source.provider, source.scheme(), source.path) for source in repo.get_sources()]
    if any(scheme == "file" and Path(path) != CONF for _, scheme, path in sources):
        return make()  # a folder of the test
    nodes = [*_nodes(ConfigStore.instance().repo)]
    key = (*key, *sources, *map(id, nodes))
    if key not in _kept:
        made = make()
        try:
            _kept[key] = pickle.dumps(made), nodes
        except (pickle.PicklingError, AttributeError):  # a class of the test
            return made
    return pickle.loads(_kept[key][0])


def _nodes(store: Mapping[str, Any]) -> Iterator[ConfigNode]:
    for value in store.values():
        if isinstance(value, ConfigNode):
            yield value
        else:
            yield from _nodes(value)
