"""Fakes, fixtures and contract suites. Nothing outside the tests imports this."""
