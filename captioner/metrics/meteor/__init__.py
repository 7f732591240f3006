"""METEOR 1.5 without Java: normalization, alignment and score, equal to the jar's; `jar` runs the jar itself."""
