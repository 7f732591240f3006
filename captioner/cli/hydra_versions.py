"""Hydra 1.3 with OmegaConf 2.3, and Hydra 1.4 with OmegaConf 2.4: one name for what they call differently."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import hydra.version
from omegaconf import OmegaConf

VERSION_BASE: dict[str, str] = {"version_base": "1.3"} if hasattr(hydra.version, "base_at_least") else {}
"""Keyword arguments of `hydra.main` and `hydra.initialize…`.

Hydra 1.3 behaves as the version that it is given, and warns where it is given none. Later versions behave in one way
only, and warn of the argument.
"""


def register_resolver(name: str, resolver: Callable[..., Any], *, use_cache: bool = False) -> None:
    """Define the interpolation `${name:…}`, replacing an earlier definition."""
    register: Callable[..., None] = OmegaConf.register_resolver
    if "replace" not in inspect.signature(register).parameters:  # up to OmegaConf 2.3 this name is an older function's
        register = OmegaConf.register_new_resolver
    register(name, resolver, replace=True, use_cache=use_cache)
