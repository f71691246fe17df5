"""Data sets: one module each, with a function that returns a `Split`."""
