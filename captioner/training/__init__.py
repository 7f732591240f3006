"""Training of captioners: from settings to a run folder with logs, checkpoints and scores."""
