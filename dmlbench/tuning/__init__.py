"""Hyper-parameter search with the same budget for every method, on training classes only."""
