"""Simulation harnesses: Amaranth and Verilator, over the same frames."""
