"""The GCS process: nodes, actors, jobs, keys and facts. Thin shells around core/cluster."""
