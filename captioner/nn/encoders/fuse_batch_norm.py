"""Fuses BatchNorm in eval mode, one multiplication and one addition per channel, into the convolution before it."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batch_norm(
    network: nn.Module, join: Callable[[nn.Conv2d, nn.BatchNorm2d], nn.Module] = fuse_conv_bn_eval
) -> nn.Module:
    """A copy of `network` in eval mode, with its BatchNorm layers fused into convolutions.

    join: makes one module of a convolution and the BatchNorm after it, both in eval mode.

    A BatchNorm2d is fused where the module registered right before it, in the same parent, is a convolution with as
    many output channels. In all of torchvision's CNNs that is the convolution whose output it normalizes.
    """
    fused = copy.deepcopy(network).eval()
    for parent in list(fused.modules()):
        previous_name, previous = "", None
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, nn.BatchNorm2d)
                and isinstance(previous, nn.Conv2d)
                and previous.out_channels == child.num_features
            ):
                setattr(parent, previous_name, join(previous, child))
                setattr(parent, name, nn.Identity())
            previous_name, previous = name, child
    return fused
