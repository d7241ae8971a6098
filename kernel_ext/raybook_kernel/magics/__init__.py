"""Magics, one a file. ``arguments`` reads command lines for all of them; ``ray_cluster`` starts and ends clusters."""
