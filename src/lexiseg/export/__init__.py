"""Trained models for other programs, and theirs for us."""
