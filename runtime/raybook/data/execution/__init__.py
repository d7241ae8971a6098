"""Execution of plans: physical operators, the tasks they run, and the executor that turns the scheduler's decisions
into tasks."""
