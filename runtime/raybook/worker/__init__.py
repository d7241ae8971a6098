"""The worker: a forked process that runs tasks, or one actor. ``zygote`` is the process it is forked from."""
