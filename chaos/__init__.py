"""Faults on the real stack, and what clients notice of them: `make chaos` (docs/reliability.md)."""
