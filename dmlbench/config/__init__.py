"""The configuration: its schema, and how files and overrides become checked values."""
