"""The table of the contract in docs/engines.md: how it is written, and that it knows the rows there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.engines.table import BEGIN, END, rows, sentence, written_into

PAGE = Path(__file__).parents[3] / "docs" / "engines.md"


def test_results_become_sentences_under_their_heading() -> None:
    page = written_into(f"x{BEGIN}old{END}y", {"test_tasks::test_a_task_runs": {"native": "runs", "ray": "refused"}})

    assert page.startswith("x") and page.endswith("y") and "old" not in page
    assert "| **Tasks** |" in page and "| a task runs | runs | — | refused |" in page


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no <!-- contract"):
        written_into("nothing", {})


def test_the_page_has_every_row_of_the_contract() -> None:
    page = PAGE.read_text()

    assert not [row for row in rows() if f"| {sentence(row)} |" not in page], "make test-ray engine-table"
