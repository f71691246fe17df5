"""The trunks: images in, feature maps out. What follows them (pooling, projection, normalisation) is the Embedder's."""
