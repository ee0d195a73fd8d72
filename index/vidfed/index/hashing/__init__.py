"""From files to hashes."""
