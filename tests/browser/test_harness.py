"""The harness on itself: that it sees a panel move, sees one that does not, and sees a console error."""

from __future__ import annotations


def test_a_panel_moved_by_a_thread_is_seen_while_the_cell_blocks(open_lab):
    lab = open_lab("moving_panel.ipynb")

    lab.watch_panels()
    lab.run_all()
    lab.wait_until_run(timeout_ms=90_000)

    seen = lab.texts_seen_while_busy()
    # A busy page leaves out texts that are replaced before it draws, and draws the last one when the cell has ended.
    steps = [int(text.removesuffix(" of 5")) for text in seen["panel 1"]]
    assert len(steps) >= 3 and steps == sorted(set(steps))
    assert seen["panel 2"] == ["still"]


def test_a_console_error_is_kept(open_lab):
    lab = open_lab("moving_panel.ipynb")

    lab.page.evaluate("() => console.error('planted')")
    lab.page.wait_for_function("() => true")

    assert [error.split(" (")[0] for error in lab.console_errors] == ["planted"]
    lab.console_errors.clear()
