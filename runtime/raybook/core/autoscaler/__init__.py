"""How many nodes of which type there should be: the autoscaler's decisions, without clock, provider or sockets."""
