"""Training, evaluation and what a run leaves on disk.

Reading order: `objectives` (what is made small), `training` (the loop), `run` (what stands before it),
`evaluation` (captions and their scores), `progress` and `checkpoint` (a folder that owns all it needs), then
`optimizer`, `logs`, `interrupt`, `device`. A language model has its own `language_training`, `language_run`,
`language_evaluation` and `language_checkpoint`. The lab: `activations`, `properties` and `unit_search` (what units keep
track of), and `gradient_flow` (how far back a gradient reaches).
"""
