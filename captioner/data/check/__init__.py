"""`python -m captioner data check`: problems of a data set, found before training."""
