"""Taking many records in at once: matched with what is known, merged, written in one transaction."""
