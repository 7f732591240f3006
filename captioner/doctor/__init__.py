"""Checks for silent failures of a trained captioner: `python -m captioner doctor`. docs/doctor.md explains them."""
