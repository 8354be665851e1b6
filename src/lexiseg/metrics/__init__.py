"""Data-set-level scores of zero-shot segmentation."""
