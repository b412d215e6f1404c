"""The jobs of program.py: written for RQ, as its documentation shows how."""

import os
import time

import rq
from rq import get_current_job


def count_words(text):
    return len(text.split())


async def count_words_later(text):
    return len(text.split())


def fail(message="no data"):
    raise ValueError(message)


def fail_until(path, times):
    with open(path, "a") as tries:
        tries.write("x")
    if os.path.getsize(path) < times:
        raise ValueError("not yet")
    return os.path.getsize(path)


def note(path, text):
    with open(path, "a") as out:
        out.write(f"{text}\n")


def count_up(key):
    return get_current_job().connection.incr(key)


def noop(job, connection, result):
    pass


def who_am_i():
    job = get_current_job()
    job.meta["seen"] = True
    job.save_meta()
    return job.id


def ask_again(path):
    with open(path, "a") as tries:
        tries.write("x")
    return rq.Retry(max=2) if os.path.getsize(path) < 3 else "enough"


def sum_of_parents():
    job = get_current_job()
    return sum(parent.return_value() for parent in job.fetch_dependencies())


def run_long(seconds):
    time.sleep(seconds)


class Report:
    def __init__(self, title):
        self.title = title

    def __call__(self):
        return f"{self.title}, called"

    def render(self, page):
        return f"{self.title}, page {page}"

    @staticmethod
    def empty():
        return "nothing"

    @classmethod
    def first(cls):
        return cls("first").render(1)


def on_success(job, connection, result, *args, **kwargs):
    connection.rpush("told", f"{job.id} succeeded: {result}")


def on_failure(job, connection, exc_type, value, traceback):
    connection.rpush("told", f"{job.id} failed: {exc_type.__name__}: {value}")


def on_stopped(job, connection):
    connection.rpush("told", f"{job.id} stopped")


def handle_error(job, exc_type, exc_value, traceback):
    with open(os.environ["HANDLED"], "a") as out:
        out.write(f"{job.id}: {exc_type.__name__}\n")
    return True
