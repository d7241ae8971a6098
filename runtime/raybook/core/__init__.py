"""Brains without hands: pure state machines. No clock, rng, socket, thread or logging in here (a test checks)."""
