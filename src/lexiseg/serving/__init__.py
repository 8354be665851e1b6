"""Segmentation over HTTP: requests of many clients answered by one pipeline."""
