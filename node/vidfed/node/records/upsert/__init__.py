"""Taking many records in at once."""
