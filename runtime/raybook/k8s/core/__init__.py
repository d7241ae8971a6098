"""What is decided about Kubernetes: manifests from values, words from statuses. Imports ``base`` only."""
