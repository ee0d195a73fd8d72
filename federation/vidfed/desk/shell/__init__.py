"""What keeps others out, and what every page stands on: sessions, the guard, uploads, pages, languages, the local server."""
