"""Seeded synthetic pictures, the demo federation. Nothing here comes from outside."""
