"""`python train.py … --dry-run`: what a training will need and cost, before anything is started."""
