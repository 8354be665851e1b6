"""Training: the Lightning module, optimiser, checkpoints that survive a kill, logs and pictures."""
