"""Caption search: greedy, sampling and beam search, with every decoder.

Reading order: `hypothesis` (the result), `forbidden_tokens` and `constraints` (which tokens are allowed),
`decoding_loop` and `greedy` (one token at a time), `sampling`, `beam_search` and `beam`, `run_search` (all of them).
`docs/decoding.md` defines every setting.

The names of this package are imported when they are first used: `beam_search` and what it needs work without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.decode.hypothesis import Hypothesis
    from captioner.decode.run_search import search
    from captioner.decode.sampling import sample_captions

__all__ = ["Hypothesis", "sample_captions", "search"]

_MODULES = {"Hypothesis": "hypothesis", "sample_captions": "sampling", "search": "run_search"}
"""Public name → the module of this package that defines it."""


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
