"""Whom a node answers, for what, what it tells and how often."""
