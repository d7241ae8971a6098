"""Node report: how things stand on this node, as the GCS is told. Reads the lease manager; decides nothing."""

from __future__ import annotations

from raybook.core.node.lease_manager import LeaseManager
from raybook.protocol.messages.gcs import ReportNode


def report_of(node_id: bytes, leases: LeaseManager, drivers: int) -> ReportNode:
    """Cost: 3 µs a row of what waits, 1 µs a lease; sent a hundred times a second at most, and not while nothing changes."""
    reports = leases.reports
    busy = reports.occupation()
    if drivers and not busy:
        busy = f"{drivers} driver{'s' * (drivers > 1)} on it"
    return ReportNode(
        node_id,
        leases.available_for_reports(),
        reports.demand(),
        busy,
        # Grows with each lease that is given, so that what began and ended between two reports shows, too.
        leases.last_lease_id,
        reports.queued_actors(),
    )
