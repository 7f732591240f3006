"""A generated text on which the language model can be tried without any file.

`generate_text` alternates C sources (`source_code`) and LaTeX articles (`article`), whose comments and prose come from
`prose`. They have the structures that Karpathy, Johnson & Li (2015) looked for in the units of a network: quotations,
nested brackets, indentation, comments, and lines of limited width.
"""
