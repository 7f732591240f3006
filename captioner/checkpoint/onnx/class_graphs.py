"""Export the classifier of an encoder's network as two ONNX graphs.

    class_map.onnx    shared (N, C, h, w), or images (N, 3, S, S)   → map (N, D, rows, columns)
    classes.onnx      map (M, D, h, w), classes (K,)                → logits (M, K)

The first one has the published blocks that fine-tuning has changed since, the second the published head. The head runs
on the map of an image for its classes, and on single regions, h = w = 1, for the places of tags: see `ClassHead`. It
has `images` as its input where the encoder shares no block with the published network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from captioner.checkpoint.onnx.graphs import drop_constant_casts, export_graph
from captioner.nn.encoders.class_head import ClassHead
from captioner.nn.encoders.encoder import Encoder

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class ClassGraphs:
    """map, logits: the two graphs."""

    map: onnx.ModelProto
    logits: onnx.ModelProto


def export_classes(encoder: Encoder, head: ClassHead) -> ClassGraphs:
    """The graphs of the class head. CaptionerError where torch cannot export it."""
    size = encoder.transform.size
    images = torch.zeros(2, 3, size, size)
    given = images if head.from_images else encoder.frozen_features(images).contiguous()
    with torch.no_grad():
        found = head.upper(given)
    name = "images" if head.from_images else "shared"
    batch = torch.export.Dim("N", max=_MOST)
    of_map = export_graph(_MapGraph(head), (given,), ({0: batch},), [name], ["map"], optimize=False)
    drop_constant_casts(of_map)
    regions = {0: batch, 2: torch.export.Dim("h", max=_MOST), 3: torch.export.Dim("w", max=_MOST)}
    chosen = torch.arange(3)
    lengths = (regions, {0: torch.export.Dim("K", max=_MOST)})
    return ClassGraphs(
        of_map, export_graph(_LogitsGraph(head), (found, chosen), lengths, ["map", "classes"], ["logits"])
    )


_MOST = 1 << 20


class _MapGraph(nn.Module):
    def __init__(self, head: ClassHead) -> None:
        super().__init__()
        self.upper = head.upper

    def forward(self, shared: Tensor) -> Tensor:
        found: Tensor = self.upper(shared).clone()
        return found


class _LogitsGraph(nn.Module):
    def __init__(self, head: ClassHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, feature_map: Tensor, classes: Tensor) -> Tensor:
        return self.head.logits(feature_map, classes)
