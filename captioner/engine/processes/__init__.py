"""Several processes, one run: who does what, how gradients meet, and what must be equal in all."""
