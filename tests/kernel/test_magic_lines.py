"""The magics' command line: understood, refused with the nearest valid word, completed, explained."""

from __future__ import annotations

import pytest

from raybook_kernel.kernel_identity import kernel_id_in
from raybook_kernel.log_stream import LogStream, log_line
from raybook_kernel.magics.arguments import ArgumentMistake, Command, CommandTable, Option
from raybook_kernel.magics.values import cluster_name, cpu_count, gpu_count, size_bytes
from raybook_kernel.tracebacks import readable

TABLE = CommandTable(
    "ray_cluster",
    "Clusters",
    (
        Command(
            "start",
            "Start one.",
            (),
            (
                Option("--cpus", "N", "CPUs", cpu_count),
                Option("--memory", "SIZE", "", size_bytes),
                Option("--keep", "", ""),
            ),
        ),
        Command("connect", "Connect.", ("NAME",), (), lambda: ["fox", "fish", "bear"]),
        Command("stop", "Stop.", ("[NAME]",), (), lambda: ["fox"]),
        Command("status", "Show."),
    ),
)


def mistake(line: str) -> str:
    with pytest.raises(ArgumentMistake) as raised:
        TABLE.parse(line)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_options_and_words_are_read():
    request = TABLE.parse("start --cpus 4 --memory=2GiB --keep")
    assert request.values == {"cpus": 4, "memory": 2 << 30, "keep": True}
    assert TABLE.parse("connect fox").words == ("fox",)
    assert TABLE.parse("stop").words == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("strat", "There is no command 'strat'. Did you mean 'start'?"),
        ("start --cpu 4", "`start` has no option --cpu. Did you mean '--cpus'?"),
        ("start --cpus", "--cpus needs a value: --cpus N."),
        ("start --cpus --keep", "--cpus needs a value: --cpus N."),
        ("start --cpus four", "--cpus: a number of CPUs such as 4 is needed, got 'four'."),
        ("start --cpus 0", "--cpus: a cluster needs more than 0 CPUs."),
        ("start --cpus nan", "--cpus: a number of CPUs such as 4 is needed, got 'nan'."),
        ("start --cpus 1 --cpus 2", "--cpus is given twice."),
        ("start --keep=yes", "--keep takes no value, got 'yes'."),
        ("start cpus 4", "`start` does not know what to do with 'cpus'. Did you mean '--cpus'?"),
        ("connect", "`connect` needs NAME"),
        ("connect a b", "`connect` does not know what to do with 'b'."),
        ("status --all", "`status` takes no options, but --all was given."),
        ("start 'x", "Cannot read this line: no closing quotation."),
        ("start --memory lots", "--memory: a size such as 512MB or 2GiB is needed, got 'lots'."),
    ],
)
def test_mistake_is_one_line_that_says_what_to_type(line, expected):
    assert mistake(line).startswith(expected)


def test_empty_line_and_help_flags_ask_for_help():
    assert TABLE.parse("").wants_help
    assert TABLE.parse("--help").wants_help
    assert TABLE.parse("start --help --cpus nonsense").command.name == "start"
    assert "--cpus N" in TABLE.help(TABLE.commands["start"])
    assert all(name in TABLE.help() for name in TABLE.commands)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("%ray_cluster ", ["start", "connect", "stop", "status"]),
        ("%ray_cluster st", ["start", "stop", "status"]),
        ("%ray_cluster start --c", ["--cpus"]),
        ("%ray_cluster start --cpus 4 --", ["--memory", "--keep", "--help"]),
        ("%ray_cluster start --cpus ", []),
        ("%ray_cluster connect f", ["fox", "fish"]),
        ("%ray_cluster connect fox ", []),
        ("%ray_cluster stop ", ["fox"]),
        ("%ray_cluster nonsense ", []),
    ],
)
def test_completion_offers_what_may_stand_there(line, expected):
    assert TABLE.complete(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1024", 1024),
        ("512MB", 512_000_000),
        ("512MiB", 512 << 20),
        ("2g", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("1kB", 1000),
    ],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "2 gigs", "0MB"])
def test_sizes_that_make_no_sense_are_refused(text):
    with pytest.raises(ValueError, match="size"):
        size_bytes(text)


def test_names_and_counts_are_checked():
    assert cluster_name("fox-1.a_b") == "fox-1.a_b"
    for bad in ("", "../etc", "a b", "-x", "x" * 64):
        with pytest.raises(ValueError, match="a name has"):
            cluster_name(bad)
    assert gpu_count("0") == 0
    assert gpu_count("0.5") == 0.5
    with pytest.raises(ValueError, match="cannot have -1 GPUs"):
        gpu_count("-1")


def test_kernel_knows_its_id_from_its_connection_file():
    assert (
        kernel_id_in("/run/kernel-0f5e2a1c-7a0e-4c8e-9d8b-3f6f0a2b7c11.json") == "0f5e2a1c-7a0e-4c8e-9d8b-3f6f0a2b7c11"
    )
    assert kernel_id_in("/tmp/tmpabc.json") == ""


def row(line: str, pid: int = 7, source: str = "stdout") -> dict:
    return {"source": source, "pid": pid, "name": "square", "line": line}


def test_worker_lines_have_their_prefix_and_their_stream():
    texts = LogStream().render([row("hello"), row("oh no", source="stderr")])
    assert texts == {"stdout": "(square pid=7) hello\n", "stderr": "(square pid=7) oh no\n"}


def test_same_line_of_many_workers_is_shown_once_with_its_count():
    texts = LogStream().render([row("ready", pid=n) for n in range(8)])
    assert texts == {"stdout": "(square pid=0) ×8 ready\n"}


def test_flood_is_folded_after_the_budget_and_every_line_counted():
    stream = LogStream(lines_max=200)
    shown = "".join(
        text for batch in range(100) for text in stream.render([row(f"{batch} {n}") for n in range(100)]).values()
    )
    assert shown.count("\n") == 200
    assert stream.folded_text() == "… 9,800 more lines from workers are not shown here."
    assert stream.folded_text() == ""


def test_one_endless_line_is_cut():
    assert len(log_line(row("x" * 1_000_000))) < 2_100


CELLS = {"/tmp/ipykernel_1/123.py": "In[4]"}


def test_traceback_names_cells_and_drops_the_notebooks_machinery():
    lines = [
        "ray::bad() (pid=7, ip=127.0.0.1)",
        '  File "/tmp/ipykernel_1/123.py", line 3, in bad\n    return y / 0',
        '  File "/home/me/lib.py", line 9, in helper',
        "ZeroDivisionError: division by zero",
        "Asked for here:",
        '  File "/x/site-packages/IPython/core/interactiveshell.py", line 3823, in run_code',
        "    exec(code_obj, self.user_global_ns, self.user_ns)",
        '  File "/tmp/ipykernel_1/123.py", line 5, in <module>',
        "    ray.get(bad.remote(1))",
    ]
    assert readable(lines, CELLS.get) == [
        "ray::bad() (pid=7, ip=127.0.0.1)",
        "  Cell In[4], line 3, in bad",
        "    return y / 0",
        '  File "/home/me/lib.py", line 9, in helper',
        "\x1b[1;31mZeroDivisionError\x1b[0m: division by zero",
        "Asked for here:",
        "  Cell In[4], line 5, in <module>",
        "    ray.get(bad.remote(1))",
    ]
