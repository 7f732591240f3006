"""Draws a share of the scenes' images in a process of its own: python -m … FOLDER SEED SIZES SHARE SHARES.

`generate_scenes` starts it. SIZES: JSON, split → number of images.
"""

import json
import sys
from pathlib import Path

from captioner.data.synthetic.scenes.generate_scenes import draw_share

if __name__ == "__main__":
    folder, seed, sizes, share, shares = sys.argv[1:]
    draw_share(Path(folder), int(seed), json.loads(sizes), int(share), int(shares))
