"""The raylet: one process (or one part of the head) for each node. Serves its drivers and workers; decides nothing."""
