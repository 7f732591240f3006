"""Caption photos without torch: NumPy, Pillow and onnxruntime, from the files that `captioner export --onnx` writes.

    from captioner.runtime import OnnxCaptioner
    OnnxCaptioner.pretrained("flickr8k").caption("photo.jpg").text

Preprocessing, beam search, vocabulary, guards and confidence are the code that the torch side uses. Reading order:
`sessions` (onnxruntime), `onnx_rows` (a decoder's rows in NumPy), `onnx_captioner`, `backends` (which side a command
uses).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner.runtime.onnx_captioner import OnnxCaptioner

__all__ = ["OnnxCaptioner"]


def __getattr__(name: str) -> Any:
    """`OnnxCaptioner` is imported when it is first used, so that `backends` can be imported alone."""
    if name == "OnnxCaptioner":
        from captioner.runtime.onnx_captioner import OnnxCaptioner

        return OnnxCaptioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
