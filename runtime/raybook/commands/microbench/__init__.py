"""Microbench: the rows of the speed table, what is asked of each, and how figures become text.

In the wheel for ``raybook microbenchmark``, and the same files for ``benchmarks/`` (through a link): there they run in
interpreters that have Ray or Dask and no raybook. So they import each other by relative names and nothing of raybook.
rows (one function each) · plan (their list) · measure (one row, boxed in time) · figures (arithmetic and tables).
"""
