"""The encoder: a network up to its last feature map or its tokens, parts of which can be fine-tuned."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captioner.config import TransformConfig
from captioner.config.encoder import NO_ENCODER_NAME
from captioner.errors import ConfigError, near_misses
from captioner.nn.encoders.fuse_batch_norm import fuse_batch_norm
from captioner.nn.encoders.trunk import (
    WRAPPERS,
    TokenLayout,
    WeightsReader,
    block_names,
    feature_map_shape,
    grid_features,
    run_in_chunks,
)
from captioner.nn.types import ImageFeatures


class Encoder(nn.Module):
    """Images → a grid of feature vectors, and their mean. ConfigError for an unknown block or too small an image.

    Attributes:
        name: the network's name in `EncoderConfig`.
        trunk: the network without its head, its children named as in torchvision.
        transform: the preprocessing of its images.
        read_weights: see `EncoderNetwork`.
        blocks: the names of the blocks in order; `fine_tune_from` names the first one that is trained.
        frozen_blocks: the blocks that are not trained now.
        fine_tuning_paused: True between `freeze` and `unfreeze`: every block is frozen, whatever the settings say.
        feature_dim: D, the channels of the last feature map.
        grid_size: (rows, columns) of the last feature map at `transform.size`.
        vector_is_mean: whether the vector is the mean of the grid; otherwise it is a token of its own.
    """

    def __init__(
        self,
        name: str,
        trunk: nn.Sequential,
        transform: TransformConfig,
        fine_tune_from: str | None = None,
        batch_norm_eval: bool = True,
        gradient_checkpointing: bool = False,
        read_weights: WeightsReader | None = None,
        *,
        tokens: TokenLayout | None = None,
        containers: frozenset[str] = WRAPPERS,
        fuses: bool = True,
    ) -> None:
        super().__init__()
        self.name = name
        self._tokens, self._containers, self._fuses = tokens, containers, fuses
        self.vector_is_mean = tokens is None
        self.trunk = trunk
        self.transform = transform
        self.read_weights = read_weights
        self.blocks = block_names(trunk, containers)
        self.batch_norm_eval = batch_norm_eval
        self.gradient_checkpointing = gradient_checkpointing
        # The frozen blocks with fused BatchNorm; in a tuple it is no child of this module, so not in its state dict.
        self._fused: tuple[nn.Module, ...] = ()
        self.feature_dim, rows, columns = feature_map_shape(name, trunk, transform.size)
        self.grid_size = (rows, columns) if tokens is None else (tokens.rows, tokens.columns)

        if fine_tune_from is not None and fine_tune_from not in self.blocks:
            raise ConfigError(
                f"encoder.fine_tune_from={fine_tune_from!r} is not a block of {name}."
                f"{near_misses(fine_tune_from, self.blocks)} Its blocks are: {', '.join(self.blocks)}."
            )
        self._fine_tuned_blocks = self.blocks[self.blocks.index(fine_tune_from) :] if fine_tune_from is not None else []
        self.unfreeze()

    @property
    def encodes_images(self) -> bool:
        """False for `encoder=none`, whose features are made elsewhere."""
        return self.name != NO_ENCODER_NAME

    @property
    def token_layout(self) -> TokenLayout | None:
        """How the tokens of a vision transformer are read; None for a convolutional network."""
        return self._tokens

    @property
    def fuses(self) -> bool:
        """Whether BatchNorm may be fused into the convolution registered before it."""
        return self._fuses

    @property
    def frozen(self) -> bool:
        """Whether all blocks are frozen now."""
        return len(self.frozen_blocks) == len(self.blocks)

    def freeze(self) -> None:
        """Freeze every block until `unfreeze` is called: the decoder is trained first, then both."""
        self.fine_tuning_paused = True
        self._set_trainable([])

    def unfreeze(self) -> None:
        """Make the blocks from `fine_tune_from` on trainable; the others stay frozen."""
        self.fine_tuning_paused = False
        self._set_trainable(self._fine_tuned_blocks)

    def _set_trainable(self, trainable: list[str]) -> None:
        self.frozen_blocks = [block for block in self.blocks if block not in trainable]
        for block in self.blocks:
            self.trunk.get_submodule(block).requires_grad_(block in trainable)
        self._fused = ()
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        """Set the training mode; frozen blocks stay in eval mode, and with `batch_norm_eval` every BatchNorm."""
        super().train(mode)
        for block in self.frozen_blocks:
            self.trunk.get_submodule(block).eval()
        if self.batch_norm_eval:
            for module in self.trunk.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """vector (B, D), the mean of the grid; grid (B, P, D), the regions in reading order.

        Frozen blocks record no gradient.
        """
        return self.forward_with_frozen(images)[0]

    def forward_with_frozen(self, images: Float[Tensor, "B 3 S S"]) -> tuple[ImageFeatures, Float[Tensor, "B C h w"]]:
        """What `forward` returns, and the feature map of the frozen blocks (the images, where no block is frozen)."""
        frozen, trainable = self.split_trunk()
        with torch.no_grad():
            features = self._run_frozen(images.contiguous(memory_format=torch.channels_last), frozen)
        return self._run_trainable(features, trainable), features

    @torch.no_grad()
    def frozen_features(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """The feature map of the frozen blocks."""
        return self._run_frozen(images.contiguous(memory_format=torch.channels_last), self.split_trunk()[0])

    def trainable_part(self) -> list[nn.Sequential]:
        """The blocks from the first trainable one on, in order."""
        return self.split_trunk()[1]

    def frozen_part(self) -> FrozenPart | None:
        """The blocks before the first trainable one, as an encoder of their own; None where every block is trained."""
        if not self.frozen_blocks:
            return None
        frozen, trainable = self.split_trunk()
        name = f"{self.name}_before_{self.blocks[len(self.frozen_blocks)]}" if trainable else self.name
        return FrozenPart(name, frozen, self.transform, None if trainable else self._tokens, fuses=self._fuses)

    def forward_trainable_part(self, part: Float[Tensor, "B Q C"], rows: int) -> ImageFeatures:
        """What `forward` returns, computed from the grid that `frozen_part` returns; `rows`: those of that grid."""
        images, regions, channels = part.shape
        features = part.view(images, rows, regions // rows, channels).permute(0, 3, 1, 2)  # channels last, no copy
        return self._run_trainable(features, self.split_trunk()[1])

    def _run_trainable(self, features: Float[Tensor, "B C h w"], trainable: list[nn.Sequential]) -> ImageFeatures:
        """Through the trainable blocks, to the grid."""
        for block in trainable:
            checkpointed = self.gradient_checkpointing and torch.is_grad_enabled()
            features = _checkpointed(block, features) if checkpointed else block(features)
        return grid_features(features, self._tokens)

    def split_trunk(self) -> tuple[nn.Sequential, list[nn.Sequential]]:
        """The trunk in order: everything before the first trainable block, and the trainable blocks.

        A child without parameters (an activation, a pooling) belongs to the block before it.
        """
        frozen, trainable = nn.Sequential(), list[nn.Sequential]()
        for name, child in self.trunk.named_children():
            inner = child.named_children() if name in self._containers else [("", child)]
            for part, module in inner:
                block = f"{name}.{part}".rstrip(".")
                if block in self.blocks and block not in self.frozen_blocks:
                    trainable.append(nn.Sequential(module))
                else:
                    (trainable[-1] if trainable else frozen).append(module)
        return frozen, trainable

    def _run_frozen(self, images: Tensor, frozen: nn.Sequential) -> Tensor:
        """(B, 3, S, S) → (B, …) by the frozen blocks, or a copy with fused BatchNorm, made at the first call."""
        if not self._fused:
            has_norms = any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
            self._fused = (fuse_batch_norm(frozen) if self._fuses and has_norms else frozen,)
        return run_in_chunks(self._fused[0], images)

    def discard_fused_copy(self) -> None:
        """Free the copy of the frozen blocks with fused BatchNorm. The next call makes it again."""
        self._fused = ()

    # The copy is out of date once the trunk's tensors move or other values are loaded into them.

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Encoder:
        self._fused = ()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._fused = ()
        super()._load_from_state_dict(*args, **kwargs)


class FrozenPart(nn.Module):
    """The blocks of an encoder before the first trainable one: the part whose output a cache can store.

    name, transform, feature_dim, grid_size and vector_is_mean are those of `Encoder`, the last three of the feature map
    in between.
    """

    def __init__(
        self,
        name: str,
        blocks: nn.Sequential,
        transform: TransformConfig,
        tokens: TokenLayout | None = None,
        *,
        fuses: bool = True,
    ) -> None:
        super().__init__()
        self.name, self.transform = name, transform
        self._tokens, self.vector_is_mean = tokens, tokens is None
        self.fused = (fuse_batch_norm(blocks) if fuses else copy.deepcopy(blocks).eval()).requires_grad_(False)
        self.feature_dim, rows, columns = feature_map_shape(name, self.fused, transform.size)
        self.grid_size = (rows, columns) if tokens is None else (tokens.rows, tokens.columns)

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 S S"]) -> ImageFeatures:
        """The grid of the feature map in between, and its mean."""
        features = run_in_chunks(self.fused, images.contiguous(memory_format=torch.channels_last))
        return grid_features(features, self._tokens)


def _checkpointed(block: nn.Module, features: Tensor) -> Tensor:
    """The block's output; its activations are computed again in the backward pass (Chen et al. 2016)."""
    output: Tensor = checkpoint(
        block, features, use_reentrant=False, context_fn=lambda: (nullcontext(), _frozen_statistics(block))
    )
    return output


def encode_alike(one: Encoder, other: Encoder) -> bool:
    """Whether two encoders give the same features: the same network, weights and preprocessing."""
    if one is other or not one.encodes_images:
        return True
    if one.name != other.name or one.transform != other.transform or one.feature_dim != other.feature_dim:
        return False
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


@contextmanager
def _frozen_statistics(block: nn.Module) -> Iterator[None]:
    """Inside, the running statistics of BatchNorm are not updated, so that the second forward pass does not count."""
    momenta = [(layer, layer.momentum) for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)]
    counts = [(count, count.clone()) for name, count in block.named_buffers() if name.endswith("num_batches_tracked")]
    for layer, _ in momenta:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in momenta:
            layer.momentum = momentum
        for count, before in counts:
            count.copy_(before)
