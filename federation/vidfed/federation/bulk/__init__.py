"""Looking up everything in a file or folder."""
