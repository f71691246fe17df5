"""Training of one model: training loop, checkpoints, embeddings, and cached features of frozen trunks."""
