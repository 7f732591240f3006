"""`FallbackCaptioner`: onnxruntime, and torch for the searches that it does not have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from captioner.captioning.caption_request import CaptionRequest
from captioner.data.images.decode import ImageSource
from captioner.errors import ImageError
from captioner.generated_caption import Caption
from captioner.runtime.onnx_captioner import OnnxCaptioner

if TYPE_CHECKING:
    from captioner.inference import Captioner


class FallbackCaptioner(OnnxCaptioner):
    """Captions by onnxruntime. Torch is imported, and the checkpoint loaded, for the first search that needs it."""

    @cached_property
    def with_torch(self) -> Captioner:
        """The same model with torch, on the CPU."""
        from captioner.inference import Captioner

        return Captioner.from_checkpoint(self.name, "cpu")

    def _check(self, request: CaptionRequest) -> None:
        if self._needs_torch(request):
            self.with_torch._check(request)
        else:
            super()._check(request)

    def _caption_batch(
        self,
        images: Sequence[ImageSource],
        names: Sequence[str],
        request: CaptionRequest,
        image_ids: Sequence[int | str],
    ) -> list[Caption]:
        if self._needs_torch(request):
            return self.with_torch._caption_batch(images, names, request, image_ids)
        return super()._caption_batch(images, names, request, image_ids)

    def _caption_stream(
        self, images: Iterable[ImageSource], request: CaptionRequest, size: int
    ) -> Iterator[Caption | ImageError]:
        if self._needs_torch(request):
            return self.with_torch._caption_stream(images, request, size)
        return super()._caption_stream(images, request, size)

    def _needs_torch(self, request: CaptionRequest) -> bool:
        return self.lacking(request.decode) is not None
