<<<<<<< HEAD
"""Fakes, fixtures and contract suites. Nothing outside the tests imports this."""
=======
"""Fakes, clocks and fixtures for tests. Nothing outside tests imports from here."""
>>>>>>> notebook
