"""Result rows: their columns, their files, and how runs are found. Imports neither torch nor Hydra."""
