"""When a GCS that died is started again."""

from raybook.core.cluster.revival import FIRST_PAUSE_MS, PAUSE_MS_MAX, STEADY_MS, pause_ms


def test_gcs_that_lived_for_a_while_is_started_again_at_once():
    assert pause_ms(STEADY_MS, PAUSE_MS_MAX) == 0


def test_pauses_double_while_lives_are_short_and_stop_growing():
    pauses, last = [], 0
    for _ in range(10):
        last = pause_ms(50, last)
        pauses.append(last)
    assert pauses[:4] == [FIRST_PAUSE_MS, 2 * FIRST_PAUSE_MS, 4 * FIRST_PAUSE_MS, 8 * FIRST_PAUSE_MS]
    assert pauses[-1] == PAUSE_MS_MAX
