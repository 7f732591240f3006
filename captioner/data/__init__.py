"""From files to batches: every source ends in one data set type, every image in one preprocessing.

Reading order: `dataset` (the type), `build` (name → reader), one reader such as `flickr8k`, `images` and `transforms`
(file → tensor), `cache` and `features` (what the decoder reads), `batches` (what is trained together).
Beside them: `scenes` (the drawn data set), `check` (a report before hours are spent), `download`.
"""
