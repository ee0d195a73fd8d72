"""From hashes to rows: exact range search."""
