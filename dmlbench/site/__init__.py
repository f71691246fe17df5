"""A static site about published entries: files with relative links that need neither a server nor a network."""
