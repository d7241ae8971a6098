"""Hands without opinions: sockets, shared memory, processes, files, clocks. No decisions in here."""
