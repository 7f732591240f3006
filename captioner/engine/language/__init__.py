"""The language model's run: the same loop, checkpoints and logs as a captioner's, over a text."""
