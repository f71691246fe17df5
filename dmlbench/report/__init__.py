"""One self-contained HTML file about runs: fair tables, pictures of the numbers and of the data, and provenance."""
