"""What runs in a process without keys: reading databases and HTTPS feeds. Settings come as JSON, rows leave as JSON lines."""
