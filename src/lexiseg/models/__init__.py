"""Trainable mask models, one paper noun per file."""
