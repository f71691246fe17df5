"""Data sets as `Split`s, and how their images are read, checked, cached and batched."""
