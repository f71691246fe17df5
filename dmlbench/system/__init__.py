"""Services close to the operating system: atomic writes, locks between processes, downloads, random seeds."""
