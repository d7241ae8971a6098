"""The head of an embedded cluster: one process, one loop, GCS and raylet side by side. Composition only."""
