"""The steps from images to captions, of which `captioner.inference.Captioner` and `OnnxCaptioner` are made.

Reading order: `base_captioner` (how a captioner is called), `caption_request` (what a call asks for),
`word_constraints` (must_have and must_not in token ids), `caption_stream` (any number of images, in constant memory)
and `to_caption`, which both share and which import no torch; with torch: `image_encoding` (images → features),
`caption_search` (features → captions), `describe_model` (`repr` of a captioner).
"""
