"""Start-up probe: measures import, init, first task and shutdown of one engine, once, in this fresh interpreter.

Imports almost nothing before the clock starts, so that no module of the engine is paid for by the probe. Prints one
JSON line with four times in seconds. Usage: ``python startup_probe.py raybook|ray``.
"""

import sys
import time

begin = time.perf_counter()
if sys.argv[1] == "ray":
    import ray
else:
    import raybook as ray
imported = time.perf_counter()
ray.init()
initialized = time.perf_counter()


@ray.remote
def nothing():
    return None


ray.get(nothing.remote())
first_task_done = time.perf_counter()
ray.shutdown()
shut_down = time.perf_counter()

# Formatted by hand: the json module would be an import that the engine then need not pay for.
print(
    f'{{"import": {imported - begin}, "init": {initialized - imported}, '
    f'"first_task": {first_task_done - initialized}, "shutdown": {shut_down - first_task_done}}}'
)
