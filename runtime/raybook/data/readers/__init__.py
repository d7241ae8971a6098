"""The `read_*` and `from_*` functions, by what they read."""
