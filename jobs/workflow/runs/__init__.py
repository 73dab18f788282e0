"""Runs: their directories, how they stand, and what is told of them."""
