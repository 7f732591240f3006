"""The steps from images to captions, of which `captioner.inference.Captioner` is made.

Reading order: `image_encoding` (images → features), `word_constraints` (must_have and must_not in token ids),
`caption_search` (features → captions), `caption_stream` (all of these for any number of images, in constant memory),
`describe_model` (`repr` of a captioner).
"""
