"""Amaranth components, one per operation of the golden model."""
