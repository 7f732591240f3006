"""Which units keep track of a property: those whose values are best correlated with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK = 500  # tokens


@dataclass(frozen=True)
class UnitMatch:
    """A unit and its correlation with a property, where it was found and where it was not."""

    name: str  # such as layer1.c.37
    found: float  # Pearson's r over one half of the tokens, by which units were ranked
    confirmed: float  # over the other half, which the ranking never saw


def best_units(states: Mapping[str, Tensor], values: Sequence[float], count: int) -> list[UnitMatch]:
    """The `count` units with the highest |r| in one half of the text; their r in the other half beside it.

    The halves are alternating blocks of `BLOCK` tokens, so that both hold every kind of passage. A property that does
    not vary in the first half has no units.
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
    """Pearson's r of each column with `target`; 0 where either does not vary."""
    centred, wanted = units - units.mean(dim=0), target - target.mean()
    product = centred.norm(dim=0) * wanted.norm()
    r = (centred * wanted[:, None]).sum(dim=0) / product.clamp_min(torch.finfo(units.dtype).tiny)
    return torch.where(product > 1e-12, r, torch.zeros_like(r))
