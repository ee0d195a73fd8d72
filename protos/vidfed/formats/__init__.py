"""File formats of the field, read as streams of entries and written as streams of records. Knows no database and no network."""
