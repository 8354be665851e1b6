"""The flags of every command, with its help: nothing here imports a library, so that ``--help`` answers at once.

A parser names the function that does the work by its place; main imports it when the command is run.
"""
