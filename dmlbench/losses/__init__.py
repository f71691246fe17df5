"""Losses: the objective of a method (loss and miner), and diagnostics of its proxies."""
