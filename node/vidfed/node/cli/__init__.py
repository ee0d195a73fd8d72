"""`vidfed node ...`. Thin: parse, call, print."""
