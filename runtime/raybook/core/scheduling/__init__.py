"""Which node? Policies over a view of the cluster that is at most one report old."""
