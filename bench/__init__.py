"""Measurements: ``python -m bench`` writes docs/benchmarks.md and docs/benchmarks.json."""
