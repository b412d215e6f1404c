"""The shop's jobs. Nothing here knows of the web."""

import asyncio

import rqd
from pydantic import BaseModel

CENTS = {"tea": 450, "milk": 120, "cake": 390}


class Bill(BaseModel):
    """What an order costs."""

    items: list[str]
    cents: int


async def pack(items: list[str]) -> Bill:
    """Packs an order, item by item. Raises LookupError for an item that the shop does not have."""
    cents = 0
    for number, item in enumerate(items):
        rqd.progress(number / len(items), f"packing {item}")
        cents += await fetch(item)
    rqd.progress(1, "packed")
    return Bill(items=items, cents=cents)


async def fetch(item: str) -> int:
    """Fetches an item from its shelf, which takes a second, and returns its price in cents."""
    if item not in CENTS:
        raise LookupError(f"there is no {item}")
    await asyncio.sleep(1)
    return CENTS[item]
