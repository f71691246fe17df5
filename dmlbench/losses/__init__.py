"""Losses and miners as one objective, and diagnostics of their proxies."""
