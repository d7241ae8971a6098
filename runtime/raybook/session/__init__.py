"""Session shells: the sockets of a thin client and of the process that owns on its behalf. What they decide is in
``core/session``; what a session does with an order is the engines'."""
