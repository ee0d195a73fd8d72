"""Doubles and helpers that tests and benchmarks share: they fake the peer, never the crypto."""
