"""Labelled data sets, one file each."""
