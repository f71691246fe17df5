"""Floor 5.5: a method's own values, searched with the same budget for every method, on training classes alone."""
