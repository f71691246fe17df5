"""Pictures of single runs: their queries with the nearest images, and projections of their embeddings."""
