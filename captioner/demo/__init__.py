"""A page in the browser to try captioners on photos: `python -m captioner demo`.

`answers` says what a model makes of a photo; `app` puts it behind HTTP, within the limits of `uploads` and `guard`;
`page/` is what the browser shows, self-contained; `server` runs it all on this machine. docs/demo.md
says how it is used.
"""
