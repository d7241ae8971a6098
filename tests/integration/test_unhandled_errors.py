"""Behaviour 15: an error that nobody asked for is logged when the last reference to it goes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
import raybook as ray

ray.init(num_cpus=2, log_to_driver=False)

@ray.remote
def broken(number):
    raise ValueError(f"boo {number}")

@ray.remote
class Actor:
    def broken(self):
        raise ValueError("boo of an actor")

@ray.remote
def after(value):
    return value

def settle():
    # The loop handles events in order: what was dropped before has been looked at when a later task is done.
    ray.get(after.remote(1))
    ray.get(after.remote(1))

actor = Actor.remote()
first = broken.remote(1)
second = actor.broken.remote()
ray.wait([first, second], num_returns=2)
del first, second
broken.remote(2)
settle()

asked = [broken.remote(3), broken.remote(4)]
ray.wait(asked, num_returns=2)
try:
    ray.get(asked)
except ValueError:
    pass
passed_on = broken.remote(5)
try:
    ray.get(after.remote(passed_on))
except ValueError:
    pass
del asked, passed_on
settle()

os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
ignored = broken.remote(6)
ray.wait([ignored])
del ignored
settle()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def logged() -> str:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50, check=True)
    return done.stderr


def test_errors_of_tasks_and_calls_that_nobody_asked_for_are_logged(logged: str):
    assert logged.count("Unhandled error (suppress with 'RAY_IGNORE_UNHANDLED_ERRORS=1')") == 3
    for text in ("ValueError: boo 1", "ValueError: boo of an actor", "ValueError: boo 2"):
        assert text in logged


def test_errors_that_were_raised_or_passed_on_or_are_to_be_ignored_are_not_logged(logged: str):
    assert not [number for number in (3, 4, 5, 6) if f"boo {number}" in logged]


LOGGING = """
import json, logging
import raybook as ray

ray.init(num_cpus=1, logging_config=ray.LoggingConfig(encoding="JSON", log_level="INFO"))
logging.getLogger().info("from the driver")

@ray.remote
def speak():
    logging.getLogger().info("from a task", extra={"colour": "red"})

ray.get(speak.remote())
ray.shutdown()
"""


def test_a_logging_config_makes_driver_and_workers_write_json_with_their_ids():
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, timeout=50, check=True)
    rows = [json.loads(line[line.index("{") :]) for line in done.stderr.splitlines() if '"message"' in line]
    by_text = {row["message"]: row for row in rows}
    assert by_text["from the driver"]["levelname"] == "INFO" and by_text["from the driver"]["job_id"]
    assert by_text["from a task"]["colour"] == "red" and by_text["from a task"]["task_name"] == "speak"
    assert by_text["from a task"]["job_id"] == by_text["from the driver"]["job_id"]
