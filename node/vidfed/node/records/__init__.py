"""The records: what one is, where they are kept, what becomes of them."""
