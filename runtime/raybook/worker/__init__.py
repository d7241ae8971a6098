"""What runs inside a driver or worker process: the I/O thread with the owner machine, and, in workers, the executor.

core_process   the I/O thread: sockets in, owner's effects out (drivers and workers alike)
peers          connections to other processes
regions        room in the arena for values of this process
executor       tasks on the main thread · actor_executor  methods of an actor · args  arguments and results
zygote         the process that workers are forked from · options  what a forked worker is told
"""
