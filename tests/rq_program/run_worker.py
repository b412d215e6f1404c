"""A worker that goes on until it is told to stop."""

import os

from redis import Redis
from rq import Worker

connection = Redis.from_url(os.environ["PROGRAM_REDIS"])
Worker(["control"], connection=connection).work(burst=False)
