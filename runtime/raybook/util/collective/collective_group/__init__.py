"""Groups of each backend."""
