"""Asking all nodes at the same time."""
