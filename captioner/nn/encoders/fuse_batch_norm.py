"""BatchNorm in eval mode is one multiplication and one addition a channel: the convolution before it can do both."""

from __future__ import annotations

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fuse_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of `network`, in eval mode, that computes the same without its BatchNorm layers.

    A BatchNorm2d is folded where the module registered right before it, in the same parent, is a convolution with as
    many output channels: in all of torchvision's CNNs that is the convolution whose output it normalises.
    """
    folded = copy.deepcopy(network).eval()
    for parent in list(folded.modules()):
        previous_name, previous = "", None
        for name, child in list(parent.named_children()):
            if (
                isinstance(child, nn.BatchNorm2d)
                and isinstance(previous, nn.Conv2d)
                and previous.out_channels == child.num_features
            ):
                setattr(parent, previous_name, fuse_conv_bn_eval(previous, child))
                setattr(parent, name, nn.Identity())
            previous_name, previous = name, child
    return folded
