"""The commands of `longstop-models`: one file each, with its arguments and what it does.

Importing one costs nothing: what a command needs is imported when it runs.
"""
