"""raybook.util: Ray's utilities, at Ray's names."""
