"""Fusing BatchNorm does not change the output. test_encoder covers every torchvision family."""

from __future__ import annotations

import torch
from torch import nn

from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm


def randomised(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


def test_computes_the_same_without_batch_norm() -> None:
    network = randomised(
        nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, eps=0.1)),
        )
    ).double()
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    fused = fuse_batch_norm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    torch.testing.assert_close(fused(images), network(images), rtol=1e-12, atol=1e-12)


def test_leaves_the_original_alone() -> None:
    network = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fused = fuse_batch_norm(network)
    assert not fused.training
    assert network.training
    assert isinstance(network[1], nn.BatchNorm2d)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_keeps_a_batch_norm_that_does_not_follow_a_convolution() -> None:
    network = randomised(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)))
    images = torch.randn(2, 3, 5, 5)
    fused = fuse_batch_norm(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == 2
    torch.testing.assert_close(fused(images), network(images))
