"""Where the log's and the witnesses' rows lie: SQLite or PostgreSQL."""
