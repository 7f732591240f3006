"""A text that the language model can be tried on without any file: made from a seed, by rules that a cell can learn.

`generate` puts documents one after the other: C sources (`source`) and LaTeX articles (`article`), whose comments
and prose come from `sentences`. They hold what Karpathy, Johnson & Li (2015) looked for in cells: quotations,
brackets in brackets, indentation, comments, lines that are broken at a width.
"""
