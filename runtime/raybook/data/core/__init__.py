"""The pure deciders of Data: logical plans, their optimizer, and the scheduler of streaming execution."""
