"""Engines: who really runs tasks. ``api`` talks to the ``Engine`` protocol and cannot tell which one it is."""
