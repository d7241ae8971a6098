"""The cluster as the GCS knows it: actors, nodes, jobs, keys, resources and facts. Pure tables and machines."""
