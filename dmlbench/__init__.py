"""dmlbench: deep metric learning methods, compared fairly."""

__version__ = "0.1.0"
