"""Plots: pure functions from data to one PNG file (of units also to HTML). None needs a display.

attention_sheet   images with their captions and one attention map per word
caption_sheet     images with their captions and references
training_curves   loss and validation scores of a run
unit_plots        values of a unit over a text, as colored characters; saturation of gates
gradient_plots    gradient norms against distance; loss, gradient norm and spectral radius while training
canvas            a page of fixed width, on which the sheets are drawn

matplotlib is imported when something is drawn, not with these modules, and its global state stays untouched.
"""

from captioner.plots.attention_sheet import CaptionLike, attention_overlay, attention_sheet, draw_attention_sheet
from captioner.plots.caption_sheet import caption_sheet
from captioner.plots.training_curves import training_curves

__all__ = [
    "CaptionLike",
    "attention_overlay",
    "attention_sheet",
    "caption_sheet",
    "draw_attention_sheet",
    "training_curves",
]
