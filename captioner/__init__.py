"""captioner: a framework for image captioning research on recurrent decoders.

    from captioner import Captioner
    Captioner.pretrained("flickr8k").caption("photo.jpg").text

`dir(captioner)` lists the public names. Each is imported when it is first used, so `import captioner` imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from captioner.version import __version__

if TYPE_CHECKING:
    from captioner.checkpoint.pretrained import pretrained_names
    from captioner.config import DecodeConfig
    from captioner.errors import CaptionerError, CheckpointError, ConfigError, DataError, ImageError
    from captioner.evaluation.scored_caption import ScoredCaption
    from captioner.generated_caption import Caption
    from captioner.inference import Captioner

__all__ = [
    "Caption",
    "Captioner",
    "CaptionerError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DecodeConfig",
    "ImageError",
    "ScoredCaption",
    "__version__",
    "pretrained_names",
]

_MODULES = {
    "Caption": "captioner.generated_caption",
    "Captioner": "captioner.inference",
    "CaptionerError": "captioner.errors",
    "CheckpointError": "captioner.errors",
    "ConfigError": "captioner.errors",
    "DataError": "captioner.errors",
    "DecodeConfig": "captioner.config",
    "ImageError": "captioner.errors",
    "ScoredCaption": "captioner.evaluation.scored_caption",
    "pretrained_names": "captioner.checkpoint.pretrained",
}
"""Public name → the module that defines it."""


def __getattr__(name: str) -> Any:
    if name == "Captioner" and importlib.util.find_spec("torch") is None:
        from captioner.runtime import OnnxCaptioner  # which captions alike

        return OnnxCaptioner
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    from captioner.errors import near_misses

    raise AttributeError(f"module 'captioner' has no attribute {name!r}.{near_misses(name, __all__)}")


def __dir__() -> list[str]:
    return sorted(__all__)
