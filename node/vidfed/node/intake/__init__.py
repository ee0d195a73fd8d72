"""Files and pictures into records, and records out again."""
