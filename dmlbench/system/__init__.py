"""Small system services: atomic writes, locks between processes, downloads, seeds."""
