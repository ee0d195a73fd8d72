"""What goes on while pages come and go: drafts, lookups under way, whole cases."""
