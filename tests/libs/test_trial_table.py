"""The trial table: legal changes, bounded history, stories."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raybook.ml.core.checkpoint_ledger import CheckpointLedger
from raybook.tune.core.trial_table import (
    HISTORY_POINTS,
    STATES,
    TERMINAL,
    TRANSITIONS,
    IllegalTransitionError,
    Trial,
    TrialTable,
)


def trial(trial_id="t0", name=None):
    return Trial(trial_id, 0, name or trial_id, {}, {"CPU": 1.0}, CheckpointLedger())


def table_with(*trials):
    table = TrialTable()
    for entry in trials:
        table.add(entry, 0)
    return table


def test_the_table_of_transitions_names_only_states_and_leaves_none_terminal():
    assert {state for state, _ in TRANSITIONS} | set(TRANSITIONS.values()) == set(STATES)
    assert not {state for state, _ in TRANSITIONS} & TERMINAL


@settings(max_examples=100)
@given(st.integers(0, 10**6))
def test_every_walk_along_the_table_keeps_the_invariants(seed):
    rng = random.Random(seed)
    table = table_with(trial())
    for now in range(40):
        entry = table.get("t0")
        edges = sorted(edge for state, edge in TRANSITIONS if state == entry.state)
        if not edges:
            break
        edge = rng.choice(edges)
        if edge == "report":
            table.record_result("t0", {"acc": rng.random(), "training_iteration": now}, "acc", now)
        else:
            if edge == "fail":
                entry.error = RuntimeError("x")
            if edge in ("fail", "retry"):
                entry.failures += 1
            table.apply("t0", edge, now)
        table.check_invariants()
    assert sum(table.statistics().values()) == 1


def test_an_illegal_change_tells_the_trials_story():
    table = table_with(trial())
    table.apply("t0", "launch", 5)
    with pytest.raises(
        IllegalTransitionError, match=r"t0 is STARTING: no edge 'report'[\s\S]*launch: PENDING -> STARTING"
    ):
        table.apply("t0", "report", 6)


def test_a_name_that_is_taken_is_refused_with_both_trials_named():
    table = table_with(trial("t0", "same"))
    with pytest.raises(ValueError, match="t1 would be named 'same' like trial t0"):
        table.add(trial("t1", "same"), 0)
    with pytest.raises(ValueError, match="id 't0' is taken"):
        table.add(trial("t0", "other"), 0)


def test_the_history_stays_bounded_and_spans_the_whole_run():
    table = table_with(trial())
    table.apply("t0", "launch", 0)
    table.apply("t0", "start", 0)
    for iteration in range(1, 1001):
        table.record_result("t0", {"acc": float(iteration), "training_iteration": iteration}, "acc", iteration)
        assert len(table.get("t0").history) <= HISTORY_POINTS
    history = table.get("t0").history
    assert history[0] == 1.0 and history[-1] > 950 and len(history) >= HISTORY_POINTS // 2
    assert len({round(b - a) for a, b in zip(history, history[1:], strict=False)}) == 1  # Evenly spaced.
