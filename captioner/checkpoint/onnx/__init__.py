"""A trained captioner as ONNX files: three graphs, their weights, and a description of what goes in and out."""
