"""raybook.util.multiprocessing: the standard library's process pool, on the processes of a cluster.

pool        Pool: what the user calls       results     what the calls return
dispatcher  the thread that hands chunks to the actors and results to their receivers
"""

from multiprocessing import JoinableQueue, TimeoutError

from raybook.util.multiprocessing.pool import Pool

__all__ = ["JoinableQueue", "Pool", "TimeoutError"]
