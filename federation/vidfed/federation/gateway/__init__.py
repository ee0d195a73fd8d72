"""A member's gateway."""
