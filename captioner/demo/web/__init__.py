"""The page without a server, `python -m captioner export --web DIR`: captions computed in the browser (docs/web.md).

onnxruntime_web   the files of onnxruntime-web, from the npm registry or from this machine, verified
model_files       a captioner's ONNX files, settings, vocabulary and statistics in the form that the page reads
site              the whole folder, with its list of files and the service worker
page/             HTML, CSS and JavaScript; what it shares with the demo page is in `captioner/demo/page/`
"""
