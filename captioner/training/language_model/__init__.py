"""Training of language models, with the loop, checkpoints and logs of captioning runs."""
