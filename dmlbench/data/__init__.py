"""Floor 3: data sets, each a function that returns a `Split`; how their images are read, checked and batched."""
