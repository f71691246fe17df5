"""Training of one model, its embeddings, and the features of frozen trunks."""
