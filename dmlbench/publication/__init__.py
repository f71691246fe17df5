"""Publish results as entries of a git repository, and read entries, which are data that anybody may have written."""
