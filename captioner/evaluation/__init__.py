"""Caption a split and score the captions; grounding of attention in boxes."""
