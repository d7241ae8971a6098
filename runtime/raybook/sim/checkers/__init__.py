"""Checkers: what must hold whatever the seed, one family of invariants a file. They see everything and change nothing."""
