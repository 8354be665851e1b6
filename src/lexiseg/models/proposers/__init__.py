"""Regions of a photograph before any word: one way of finding them per file."""
