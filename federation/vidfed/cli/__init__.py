"""The command `vidfed`: its root, which loads each role's commands only when called, and what all commands share at the terminal.

Imports nothing else of vidfed, so that every package's own commands can build on it.
"""
