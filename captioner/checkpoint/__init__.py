"""Checkpoints on disk: written atomically, checksummed, versioned, never executed; and exports of them."""
