"""Images to look at: pure functions from data to one PNG file (units also to HTML), drawn without a display.

attention   heat maps over the image for each word
captions    captions beside their photos
curves      how a training went
units       a unit's values over a text as colored characters
gradients   gradients against distance, and trainings that were watched
page        what the sheets are put together with

None of them touches matplotlib's global state, and it is imported when something is drawn, not with these modules.
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
