"""Entries between members, and between a member and its persons."""
