"""`vidfed lookup`, `lookups`, `gateway` and their like. Thin: parse, call, print."""
