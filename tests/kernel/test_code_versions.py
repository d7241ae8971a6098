"""Versions of a notebook's functions: what makes a new one, what does not, and who still runs an old one. No kernel."""

from __future__ import annotations

from typing import Any

import pytest

from raybook_kernel.code_versions import CodeVersions, digest_of


class Page:
    """A notebook's names: cells are executed into it."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.cells = 0
        self.versions = CodeVersions(lambda filename: filename if filename.startswith("In[") else "")

    def run(self, text: str) -> list[str]:
        self.cells += 1
        exec(compile(text, f"In[{self.cells}]", "exec"), self.names)
        return self.versions.look(self.names, f"In[{self.cells}]")

    def parts(self, name: str) -> dict[str, str]:
        return self.versions.parts_of(self.names[name], f"In[{self.cells}]")


STEP = "def step(x):\n    return norm(x) * scale\n"


@pytest.fixture
def page() -> Page:
    page = Page()
    page.run("scale = 10\ndef norm(x):\n    return x / 2\n" + STEP)
    return page


def test_a_function_is_made_of_what_it_reads_in_the_notebook(page):
    assert list(page.parts("step")) == ["step", "norm", "scale"]


def test_nothing_is_older_while_nothing_changed(page):
    parts = page.parts("step")
    assert page.run("y = 1") == []
    assert page.versions.older(parts) == []


def test_a_cell_that_runs_again_unchanged_makes_no_version(page):
    parts = page.parts("step")
    assert page.run("\n\n# moved, and said more of\n" + STEP) == []
    assert page.versions.older(parts) == []


def test_an_edited_function_is_a_new_version_and_the_old_parts_say_so(page):
    parts = page.parts("step")
    assert page.run("def step(x):\n    return norm(x) * scale + 1\n") == ["step"]
    assert page.versions.older(parts) == ["step"]
    assert page.versions.told("step", parts) == "runs v1 of `step`, In[2] has v2"


def test_an_edited_helper_makes_those_old_that_call_it(page):
    parts = page.parts("step")
    page.run("def norm(x):\n    return x / 3\n")
    assert page.versions.older(parts) == ["norm"]
    assert page.versions.told("norm", parts) == "runs v1 of `norm`, In[2] has v2"


def test_a_changed_constant_counts_as_code(page):
    parts = page.parts("step")
    assert page.run("scale = 20") == ["scale"]
    assert page.versions.told("scale", parts) == "runs v1 of `scale`, In[2] has v2"


def test_going_back_makes_the_old_version_the_newest_again(page):
    parts = page.parts("step")
    page.run("scale = 20")
    page.run("scale = 10")
    assert page.versions.older(parts) == []


def test_a_function_sent_with_an_old_helper_is_old_from_the_start(page):
    step = page.names["step"]
    page.parts("step")
    page.run("def step(x):\n    return 0\n")
    assert page.versions.older(page.versions.parts_of(step, "In[3]")) == ["step"]


def test_a_class_is_new_when_a_method_a_property_or_a_constant_of_it_is(page):
    text = "class Model:\n    size = 3\n    def run(self):\n        return self.size\n"
    page.run(text)
    parts = page.parts("Model")
    assert (
        page.run(
            'class Model:\n    """Now with words."""\n    size = 3\n    def run(self):\n        return self.size\n'
        )
        == []
    )
    assert page.run(text.replace("size = 3", "size = 4")) == ["Model"]
    assert page.run(text.replace("return self.size", "return 0")) == ["Model"]
    assert page.versions.told("Model", parts) == "runs v1 of `Model`, In[5] has v3"


def test_another_thing_under_the_name_is_no_version_of_it(page):
    parts = page.parts("step")
    assert page.run("for step in range(3): pass") == []
    assert page.versions.older(parts) == []


def test_what_remote_makes_of_a_function_is_that_function():
    from raybook import remote

    page = Page()
    page.names["remote"] = remote
    page.run("@remote\ndef step(x):\n    return x\n")
    parts = page.versions.parts_of(page.names["step"]._function, "In[1]")
    assert list(parts) == ["step"]
    page.run("@remote\ndef step(x):\n    return x + 1\n")
    assert page.versions.older(parts) == ["step"]


def test_functions_of_modules_and_what_cannot_be_compared_are_left_alone(page):
    page.run("import json\ndata = [1]\ndef reads():\n    return json.dumps(data)\n")
    assert list(page.parts("reads")) == ["reads"]
    assert page.versions.parts_of(CodeVersions.look, "In[1]") == {}
    assert digest_of(object()) == "" == digest_of([1])
