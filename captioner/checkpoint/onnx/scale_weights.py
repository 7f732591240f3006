"""BatchNorm as a factor per channel of a convolution's weights, multiplied by the program that loads the graph."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def scale_weights(trunk: nn.Module) -> nn.Module:
    """A copy of `trunk` in eval mode, each BatchNorm as a factor per channel of the weights of the convolution before.

    `captioner.nn.encoders.fuse_batch_norm` does the same and multiplies at once. Here the product stays in the graph,
    for the program that loads it: the stored weights are then those of the checkpoint, bit by bit.
    """
    scaled = copy.deepcopy(trunk).eval()
    for parent in list(scaled.modules()):
        previous_name, previous = "", None
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, nn.BatchNorm2d)
                and isinstance(previous, nn.Conv2d)
                and previous.out_channels == child.num_features
            ):
                setattr(parent, previous_name, _ScaledConv2d(previous, child))
                setattr(parent, name, nn.Identity())
            previous_name, previous = name, child
    return scaled


class _ScaledConv2d(nn.Module):
    """A convolution whose weights are multiplied by the factors of a BatchNorm each time."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        factor = torch.rsqrt(variance + norm.eps) * (1.0 if norm.weight is None else norm.weight)
        shift = (torch.zeros_like(mean) if norm.bias is None else norm.bias) - mean * factor
        bias = shift if conv.bias is None else shift + conv.bias * factor
        conv.bias = nn.Parameter(torch.zeros_like(bias))
        self.conv = conv
        self.factor = nn.Parameter(factor.detach().view(-1, 1, 1, 1))
        self.bias = nn.Parameter(bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        weights = {"weight": self.conv.weight * self.factor, "bias": self.bias}
        output: Tensor = torch.func.functional_call(self.conv, weights, (inputs,))
        return output
