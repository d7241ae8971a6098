"""What decides in Serve: reconcile, rolling_update, autoscaling, router, routes, statuses. No clock, no I/O."""
