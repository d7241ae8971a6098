"""The owner: what one driver or worker knows of the tasks it submitted and the objects it owns.

``owner.Owner`` is the machine; the other modules are its tables, each with one noun:
records (what is counted) · reference_counter · object_directory (values and where they lie) · wait_set ·
lease_requester (normal tasks) · actor_queue (actor calls) · task_manager (how tasks end, and retries).
"""
