"""Training with several processes: ranks, launching them, summing gradients, devices."""
