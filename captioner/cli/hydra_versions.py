"""Hydra 1.3 with OmegaConf 2.3, and Hydra 1.4 with OmegaConf 2.4: one name for what they call differently."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hydra.version
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if hasattr(hydra.version, "base_at_least") else {}
"""Keyword arguments of `hydra.main` and `hydra.initialize…`.

Hydra 1.3 behaves as the version that it is given, and warns where it is given none. Later versions behave in one way
only, and warn of the argument.
"""

GET_MODE = "get_mode"  # the method of Hydra's own that composes the settings to read `hydra.mode`


def register_resolver(name: str, resolver: Callable[..., Any], *, use_cache: bool = False) -> None:
    """Define the interpolation `${name:…}`; an earlier definition is replaced."""
    register: Callable[..., None] = OmegaConf.register_resolver
    if "replace" not in inspect.signature(register).parameters:  # up to OmegaConf 2.3 this name is an older function's
        register = OmegaConf.register_new_resolver
    register(name, resolver, replace=True, use_cache=use_cache)


def store_config(name: str, node: Any, group: str | None = None, package: str | None = None) -> None:
    """Make `node` a config of Hydra's, `name` or `group`/`name`, whose values go to `package`; replaces an earlier one.

    package: the group of settings; by default the group itself.
    """
    store: Callable[..., None] = ConfigStore.instance().store
    replace = {"replace": True} if "replace" in inspect.signature(store).parameters else {}  # from Hydra 1.4 on
    store(name=name, node=node, group=group, package=package, **replace)


@contextmanager
def composed_once() -> Iterator[None]:
    """Inside, `hydra.main` composes the settings once: a quarter of a second less in the start of each command.

    Otherwise it composes them before, only to read `hydra.mode`. So this is for settings that do not set it. Without
    it, Hydra takes the mode from -m, and does so here.
    """
    from hydra._internal.hydra import Hydra

    read_mode = vars(Hydra).get(GET_MODE)
    if read_mode is None:  # a version that does it in another way
        yield
        return
    setattr(Hydra, GET_MODE, lambda self, *arguments, **named: None)
    try:
        yield
    finally:
        setattr(Hydra, GET_MODE, read_mode)
