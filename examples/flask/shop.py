"""The shop's jobs. They run in a context of the application (worker.py)."""

import time

import rqd

from flask import current_app


def pack(items):
    """Packs an order, item by item. Raises LookupError for an item that the shop does not have."""
    cents = 0
    for number, item in enumerate(items):
        rqd.progress(number / len(items), f"packing {item}")
        cents += fetch(item)
    rqd.progress(1, "packed")
    return {"items": items, "cents": cents}


def fetch(item):
    """Fetches an item from its shelf, which takes a second, and returns its price in cents."""
    prices = current_app.config["CENTS"]
    if item not in prices:
        raise LookupError(f"there is no {item}")
    time.sleep(1)
    return prices[item]
