"""Data sets as `Split`s, and how their images are read, checked and batched."""
