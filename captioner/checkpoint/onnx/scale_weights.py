"""BatchNorm as a factor per channel of a convolution's weights, multiplied by the program that loads the graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm


def scale_weights(trunk: nn.Module) -> nn.Module:
    """A copy of `trunk` in eval mode, each BatchNorm as a factor per channel of the weights of the convolution before.

    Where `fuse_batch_norm` by itself multiplies at once, the product here stays in the graph, for the program that
    loads it: the stored weights are then those of the checkpoint, bit by bit.
    """
    return fuse_batch_norm(trunk, _ScaledConv2d)


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
