"""Cron entries, at RQ's path. The code is in `rqd.client`."""

from rqd.client.cron import CronJob, CronScheduler, entries, fetch, load, register, remove
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["CronJob", "CronScheduler", "entries", "fetch", "load", "register", "remove"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.cron", {})
