"""Find the units that track a property: those whose values have the highest correlation with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 500  # tokens


@dataclass(frozen=True)
class UnitMatch:
    """A unit and its correlation with a property, on the half of the text used for ranking and on the other half."""

    name: str  # such as layer1.c.37
    found: float  # Pearson's r on the half of the tokens by which units were ranked
    confirmed: float  # Pearson's r on the other half


def best_units(states: Mapping[str, Tensor], values: Sequence[float], count: int) -> list[UnitMatch]:
    """The `count` units with the highest |r| on one half of the text, with their r on the other half.

    states: name → (N, H); values: (N,). The halves are alternating blocks of `BLOCK` tokens, so that both contain all
    parts of the text. The list is empty if the property does not vary in the first half.
    """
    target = torch.tensor(values, dtype=torch.float64)
    first = torch.arange(len(target)) // min(BLOCK, max(1, len(target) // 2)) % 2 == 0
    if int(first.sum()) < 2 or float(target[first].std()) == 0:
        return []
    names = [f"{group}.{unit}" for group, rows in states.items() for unit in range(rows.shape[1])]
    units = torch.cat([rows.double() for rows in states.values()], dim=1)  # (N, all units)
    found, confirmed = correlations(units[first], target[first]), correlations(units[~first], target[~first])
    order = found.abs().argsort(descending=True, stable=True)[:count].tolist()
    return [UnitMatch(names[i], float(found[i]), float(confirmed[i])) for i in order]


def correlations(units: Float[Tensor, "N U"], target: Float[Tensor, " N"]) -> Float[Tensor, " U"]:
    """(U,) Pearson's r of each column with `target`; 0 if either does not vary."""
    centered, wanted = units - units.mean(dim=0), target - target.mean()
    product = centered.norm(dim=0) * wanted.norm()
    r = (centered * wanted[:, None]).sum(dim=0) / product.clamp_min(torch.finfo(units.dtype).tiny)
    return torch.where(product > 1e-12, r, torch.zeros_like(r))
