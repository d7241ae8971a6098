"""The simulator: a cluster in one thread from one seed, in virtual time, with the shipped machines.

    timeline network calls     time, connections, the way to the GCS
    fiber user bodies plans    user code: its threads, its hands, what it does
    process executor           a driver or worker around its owner machine
    node store arena gcs       a raylet and the GCS around theirs
    abroad neighbours transfers    raylets among others
    fleet/                     ten thousand nodes, and what decides where things go
    faults handles checkers    what goes wrong, what truly happened, what must hold
    world cases                all of it together

``python -m raybook.sim --seed 7`` plays one world, ``--minutes 5`` as many as there is time for.
"""
