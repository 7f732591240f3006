"""captioner: a framework for image captioning research on recurrent decoders.

    from captioner import Captioner
    Captioner.from_checkpoint("runs/…").caption("photo.jpg").text

Names are imported when they are first used, so that `import captioner` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captioner.version import __version__

if TYPE_CHECKING:
    from captioner.inference import Caption, Captioner

__all__ = ["Caption", "Captioner", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("Caption", "Captioner"):
        from captioner import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'captioner' has no attribute {name!r}")
