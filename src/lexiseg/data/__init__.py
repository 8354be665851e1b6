"""Data sets, class splits, label schemas, transforms and the data modules.

Nothing is gathered here: a process that only reads images would wait for all of it.
"""
