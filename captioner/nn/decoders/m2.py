"""M²: the meshed-memory transformer (Cornia, Stefanini, Baraldi & Cucchiara 2020).

Memory-augmented encoder, section 3.1: self-attention over the regions X, whose keys and values have learned slots
beside them, which can hold what the image itself does not show:

    M_mem(X) = multihead(X; [W_K X, M_k], [W_V X, M_v])

Meshed decoder, section 3.2: every decoder layer attends to the output X^i of every encoder layer i, and a gate weighs
each by the words Y (after causal self-attention) and by what it found:

    C(X^i, Y)    = multihead(Y; W_K X^i, W_V X^i)               the weights W are those of all encoder layers
    α_i          = σ(W_i [Y, C(X^i, Y)] + b_i)
    M_mesh(X, Y) = Σ_i α_i ∘ C(X^i, Y)

All else is the transformer's (see `captioner.nn.decoders.transformer`), here with norm=post as in the paper. Keys and
values of words are kept while decoding. The attention weights that it returns are those of the last decoder layer, the
mean over heads and encoder layers.

Deliberate differences from the authors' code: M_mesh is the paper's sum, without its factor 1/√(encoder layers). The
slots have no factors √d and √slots, but a standard deviation at the start that equals theirs. Regions are not
normalized before the first encoder layer. With norm=pre, the encoder's last normalization is applied to each X^i.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.config.attention_models import M2Config
from captioner.nn.decoders.transformer import DecoderLayer, EncoderLayer, TransformerDecoder
from captioner.nn.layers.group_by_image import RowsByImage
from captioner.nn.layers.multihead import KeysAndValues
from captioner.nn.types import ImageFeatures


class _MemoryAugmentedLayer(EncoderLayer):
    """M_mem and a feed-forward network."""

    def __init__(self, config: M2Config) -> None:
        super().__init__(config)
        slots, size = config.memory_slots, config.hidden_dim
        self.slot_keys, self.slot_values = (nn.Parameter(torch.empty(slots, size)) for _ in range(2))  # M_k, M_v
        nn.init.normal_(self.slot_keys, std=(size // config.heads) ** -0.5)
        nn.init.normal_(self.slot_values, std=max(slots, 1) ** -0.5)

    def attended(self, y: Float[Tensor, "B P H"], mask: Tensor | None) -> KeysAndValues:
        """The regions, and the slots after them."""
        keys, values = (
            torch.cat([of_regions, slots.to(of_regions.dtype).expand(y.shape[0], -1, -1)], 1)
            for of_regions, slots in zip(
                self.self_attention.project(y), (self.slot_keys, self.slot_values), strict=True
            )
        )
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(y.shape[0], len(self.slot_keys))], 1)
        return KeysAndValues(keys, values, mask)


class _MeshedLayer(DecoderLayer):
    """Causal self-attention over the words, M_mesh, and a feed-forward network."""

    def __init__(self, config: M2Config, has_weights: bool) -> None:
        super().__init__(config, has_weights)
        size = config.hidden_dim
        gates = [nn.Linear(2 * size, size) for _ in range(config.encoder_layers)]
        self.gates = nn.ModuleList(gates)  # W_i, b_i
        for gate in gates:
            nn.init.xavier_uniform_(gate.weight)
            nn.init.zeros_(gate.bias)

    def attend_to_memory(
        self, y: Float[Tensor, "*N H"], memory: KeysAndValues, rows: RowsByImage | None
    ) -> tuple[Float[Tensor, "*N H"], Float[Tensor, "*N P"] | None]:
        """M_mesh; `memory` has the regions of one encoder layer after those of another."""
        levels = len(self.gates)
        result, all_weights = torch.zeros_like(y), []
        of_levels = (
            part.view(part.shape[0], levels, -1, part.shape[2]).unbind(1) for part in (memory.keys, memory.values)
        )
        for gate, keys, values in zip(self.gates, *of_levels, strict=True):
            found, weights = super().attend_to_memory(y, KeysAndValues(keys, values, memory.mask), rows)
            result = result + torch.sigmoid(gate(torch.cat([y, found], -1))) * found
            if weights is not None:
                all_weights.append(weights)
        return result, torch.stack(all_weights).mean(0) if all_weights else None


class M2Decoder(TransformerDecoder):
    """A transformer whose decoder layers read the output of every encoder layer."""

    encoder_layer: ClassVar = _MemoryAugmentedLayer
    decoder_layer: ClassVar = _MeshedLayer

    def _memory(self, features: ImageFeatures) -> Float[Tensor, "B LP H"]:
        """X^1 … X^L: the regions after each encoder layer, one layer after another in the second dimension."""
        x, levels = self._regions(features), []
        for layer in self.encoder:
            x = layer(x, features.mask)
            levels.append(self.memory_norm(x))
        return torch.cat(levels, 1)
