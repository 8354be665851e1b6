"""Layouts of published checkpoints, one released system per file."""
