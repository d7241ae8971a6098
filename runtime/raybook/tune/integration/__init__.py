"""Bridges from other libraries to a trial: callbacks that report what they train."""
