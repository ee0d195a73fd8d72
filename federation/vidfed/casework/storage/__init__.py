"""Conversations on disk: SQLite or PostgreSQL. Every function takes the caller's open transaction."""
