"""Builds recurrent cells by name."""

from __future__ import annotations

from captioner.config import CELLS
from captioner.nn.cells.cell import Cell


def build_cell(name: str, hidden_dim: int) -> Cell:
    """The cell called `name` in `CELLS`, with `hidden_dim` units. ConfigError where there is none."""
    cell: Cell = CELLS[name](hidden_dim)
    return cell
