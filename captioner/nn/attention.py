"""Where to look: weights over the grid for a query, and the grid's weighted mean.

Additive attention (Bahdanau et al. 2015, as used by Xu et al. 2015, eq. 4–6 and appendix):

    e_i = w·tanh(Wa·a_i + Wh·h),   α = softmax(e),   z = Σ_i α_i a_i

Wa·a is computed once an image (`keys`) and shared by all the rows that look at it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.nn.attention_energy import StepEnergies
from captioner.nn.packing import PackedCaptions
from captioner.nn.step_linear import StepLinear


class AdditiveAttention(nn.Module):
    """`grid` (B, P, D) and a query (N, H) → weights (N, P) and context (N, D)."""

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int) -> None:
        super().__init__()
        self.keys = nn.Linear(feature_dim, attention_dim, bias=False)
        self.query = StepLinear(hidden_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)  # a bias would cancel in the softmax

    def weights(self, keys: Float[Tensor, "M P A"], query: Float[Tensor, "N H"]) -> Float[Tensor, "N P"]:
        """α of N rows; the M = N/K keys of an image serve its K rows, which stand side by side."""
        images, cells, attention_dim = keys.shape
        queries = self.query(query).view(images, -1, 1, attention_dim)  # (M, K, 1, A)
        energy = self.score(torch.tanh(keys.unsqueeze(1) + queries))  # (M, K, P, 1)
        return _softmax(energy.view(-1, cells))

    def step_energies(self, keys: Float[Tensor, "B P A"]) -> StepEnergies | None:
        """What `weights_of_rows` needs to sum its gradients over the steps of a batch of captions."""
        plain = not torch.is_grad_enabled() or torch.is_autocast_enabled(keys.device.type) or keys.device.type != "cpu"
        return None if plain or torch.compiler.is_compiling() else StepEnergies(keys, self.score.weight.squeeze(0))

    def weights_of_rows(
        self,
        keys: Float[Tensor, "B P A"],
        query: Float[Tensor, "N H"],
        images: Int[Tensor, " N"],
        energies: StepEnergies | None,
    ) -> Float[Tensor, "N P"]:
        """α of N rows that look at images[n]; `energies` makes it fast on a CPU, without it the plain way is gone."""
        if energies is None:
            return self.weights(keys.index_select(0, images), query)
        return _softmax(energies(self.query(query), images))

    @staticmethod
    def context(weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"]) -> Float[Tensor, "N D"]:
        """z of N = B·K rows that stand side by side by image: each image's grid is read once for its K rows."""
        images, cells, feature_dim = grid.shape
        return torch.bmm(weights.view(images, -1, cells), grid).view(-1, feature_dim)


def _softmax(energy: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """α in float32 at least: under autocast the energies are shorter, and the sums over α would lose digits."""
    return torch.softmax(energy, dim=1, dtype=torch.promote_types(energy.dtype, torch.float32))


def context_of_packed_rows(
    weights: Float[Tensor, "N P"], grid: Float[Tensor, "B P D"], captions: PackedCaptions
) -> Float[Tensor, "N D"]:
    """z of the first N rows of packed captions, whose images are in no order.

    The weights are put in the places of a (B, R, P) tensor, so that a grid is read once for all the
    captions of its image instead of being copied to each; places of finished captions hold zeros.
    """
    rows = len(weights)
    images, cells, _ = grid.shape
    place = (captions.images * captions.captions_per_image + captions.slots)[:rows]
    by_image = weights.new_zeros(images * captions.captions_per_image, cells).index_copy(0, place, weights)
    return AdditiveAttention.context(by_image, grid).index_select(0, place)
