"""Transparency reports: what a member's log says in numbers, signed, added up, and as a page."""
