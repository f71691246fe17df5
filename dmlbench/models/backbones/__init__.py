"""Trunks (backbones): images to feature maps."""
