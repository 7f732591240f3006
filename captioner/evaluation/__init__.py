"""Caption a split and score the captions; the grounding of attention in object boxes."""
