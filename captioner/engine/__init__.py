"""Training, evaluation and what a run leaves on disk.

Reading order: `objectives` (what is made small), `training` (the loop), `run` (what stands before it),
`evaluation` (captions and their scores), `progress` and `checkpoint` (a folder that owns all it needs), then
`optimizer`, `logs`, `interrupt`, `device`.
"""
