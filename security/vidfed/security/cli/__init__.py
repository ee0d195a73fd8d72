"""The commands of trust and audit. Thin: parse, call, print."""
