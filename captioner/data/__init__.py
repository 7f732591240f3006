"""From files to batches: data sets, images, the feature cache, and the captions' token ids.

Reading order: `dataset` (the type of every data set), `datasets.registry` (name → reader) and one reader such as
`datasets.flickr8k`, `images.decode` and `images.transforms` (file → tensor), `features.sources` and `features.cache`
(what the decoder reads), `batches` (what is trained together). Beside them: `synthetic` (generated images and texts),
`check` (a report on a data set before training) and `download`.
"""
