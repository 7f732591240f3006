"""EfficientNet-Lite's network: inverted residual blocks (Sandler et al. 2018, Section 3) in EfficientNet's stages.

torchvision has the blocks too, but importing it takes a second, and 170 MB, of every command. A seed gives the weights
that it gave with torchvision's blocks, and the names of parameters are theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

DROP_PROBABILITY = 0.2  # of a residual branch: this in the deepest block, in proportion to the depth before
DROPOUT = 0.2  # before the classifier
CLASSES = 1000


class Stage(NamedTuple):
    """Some blocks in a row (Tan & Le 2019, Table 1). The first of them has the stride and the input channels."""

    expansion: int  # multiplies the channels inside a block
    kernel: int
    stride: int
    inputs: int  # channels
    outputs: int
    blocks: int


class StochasticDepth(nn.Module):
    """Drops the residual branch of some images while training, and scales the others up (Huang et al. 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
        """The branch itself, or that of each image with probability 1 − p, divided by 1 − p."""
        if not self.training or not self.p:
            return branch
        kept = torch.empty(len(branch), 1, 1, 1, dtype=branch.dtype, device=branch.device).bernoulli_(1 - self.p)
        return branch * kept.div_(1 - self.p)


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each of them, project to few channels, and add the input where shapes allow it."""

    def __init__(self, stage: Stage, drop_probability: float) -> None:
        super().__init__()
        hidden = stage.inputs * stage.expansion
        self.block = nn.Sequential()
        if hidden != stage.inputs:
            self.block.append(_convolution(stage.inputs, hidden, 1))
        self.block.append(_convolution(hidden, hidden, stage.kernel, stage.stride, groups=hidden))
        self.block.append(nn.Identity())  # in the place of EfficientNet's squeeze-and-excitation
        self.block.append(_convolution(hidden, stage.outputs, 1, activated=False))
        self.has_residual = stage.stride == 1 and stage.inputs == stage.outputs
        self.stochastic_depth = StochasticDepth(drop_probability)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D h2 w2"]:
        """h2 and w2 are half of h and w with a stride of 2."""
        branch: Tensor = self.block(features)
        if self.has_residual:
            branch = self.stochastic_depth(branch)
            branch += features
        return branch


class EfficientNetLite(nn.Module):
    """The classification network of these stages, randomly initialized (He et al. 2015; fan-out)."""

    def __init__(self, stages: Sequence[Stage], head_channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(_convolution(3, stages[0].inputs, 3, stride=2))
        depth, total = 0, sum(stage.blocks for stage in stages)
        for stage in stages:
            row = nn.Sequential()
            for number in range(stage.blocks):
                of_block = stage._replace(inputs=stage.outputs, stride=1) if number else stage
                row.append(InvertedResidual(of_block, DROP_PROBABILITY * depth / total))
                depth += 1
            self.features.append(row)
        self.features.append(_convolution(stages[-1].outputs, head_channels, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT, inplace=True), nn.Linear(head_channels, CLASSES))
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # where there is something to initialize
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def forward(self, images: Float[Tensor, "B C h w"]) -> Float[Tensor, "B D"]:
        """Images (B, 3, S, S) → the logits of ImageNet's classes, (B, 1000)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return logits


def round_channels(channels: float) -> int:
    """The nearest multiple of 8, or the next one where that would be less than 90 % (`round_filters` of Tan & Le)."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, activated: bool = True
) -> nn.Sequential:
    """A convolution that keeps the size (at stride 1), BatchNorm, and ReLU6."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if activated else nn.Sequential(*layers)
