"""Models: trunk, pooling, head and normalisation, from images to embeddings."""
