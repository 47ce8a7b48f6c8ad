"""Formal proofs of the components: what holds for every input and every pattern of stalls."""
