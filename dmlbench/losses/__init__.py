"""The methods' training half: what turns a batch of embeddings into a number to go down."""
