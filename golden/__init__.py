"""Golden model: integer NumPy, the definition of every bit."""
