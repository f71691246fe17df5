"""Trunks with pooling, head and normalisation: images to embeddings."""
