"""Measurements of rqd beside other job queues: `bin/bench`."""
