"""Tune's pure parts: search space, trial table, schedulers, searchers' contracts. No clock, file, thread or chance.

Reading order: `space`, `variants`, `trial_table`, `trial_events`, `scheduler`, `asha`, `searcher`.
"""
