"""Names under which Ray's users find what a trial asks for: `raybook.tune.execution.placement_groups`."""
