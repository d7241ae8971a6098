"""Deciders of one node: who gets which worker, which resources, which bytes of the arena."""
