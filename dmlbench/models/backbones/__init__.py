"""Trunks (backbones): from images to feature maps."""
