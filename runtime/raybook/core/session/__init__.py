"""Session brains: what a thin client and its session process decide, without sockets or clocks."""
