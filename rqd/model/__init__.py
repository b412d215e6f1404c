"""Pure values and decisions of rqd: no I/O, no Redis, no processes."""
