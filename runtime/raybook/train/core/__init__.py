"""Pure parts of Train: who is which rank, what belongs to one report, what is kept, what follows a failure.

`ranks` places to ranks · `collectives` who waits for whom · `report_rounds` reports of all ranks to one · `checkpoint_book`
what was saved and what stays · `failure_policy` retry or raise · `scaling` how many workers · `run_states` a run's life.
"""
