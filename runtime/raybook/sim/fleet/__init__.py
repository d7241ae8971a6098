"""Fleet: the shipped scheduling machines on ten thousand nodes, in one thread and virtual time.

    meter      what decisions cost, by kind
    node       a lease manager with workers that only exist as names
    driver     a client that wants leases, around its raylet's spillover and view
    gcs        node table, actor table, group table and resource view, with a store that outlives a crash
    books      what must hold, from outside
    world      all of it together, with nodes that die and join

What single tasks, objects and references do is ``sim/world``'s business; here a lease is held for a while and given back.
"""
