"""Loggers of other services under the module paths that Ray's users import them from."""
