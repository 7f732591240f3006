"""Checkpoints on disk: written atomically, checksummed, versioned, never executed; exports of them."""
