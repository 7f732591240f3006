"""The command line: the only room that knows Hydra, prints, and ends the process.

A module a command; `run` is how each of them ends, `settings` how YAML becomes dataclasses.
"""
