"""`python -m captioner data check`: reports problems of a data set before training."""
