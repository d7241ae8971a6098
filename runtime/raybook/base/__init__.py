"""Vocabulary of the runtime: ids, resources, specs, errors, configuration. No sockets, threads or wall clock."""
