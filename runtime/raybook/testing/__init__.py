"""Fakes, clocks and fixtures for tests. Nothing outside tests imports from here."""
