"""Scores of segmenters on labelled data: reports, benchmarks, tables, costs."""
