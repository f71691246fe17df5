"""Fair comparison tables and pairwise comparisons. Imports neither torch nor Hydra."""
