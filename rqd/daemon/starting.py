"""Starts a claimed job: fetches its payload, checks if it may run, gives it to its worker."""

from __future__ import annotations

from dataclasses import replace

from rqd.daemon.admission import PAYLOAD_GONE, Admission
from rqd.daemon.config import Config
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.workers.pool import Pool
from rqd.model.outcome import Outcome, Released
from rqd.model.records import Claim


class Starting:
    """Gives claimed jobs to the workers that they were claimed for."""

    def __init__(self, config: Config, link: RedisLink, pool: Pool) -> None:
        self.use(config)
        self._link = link
        self._pool = pool

    def use(self, config: Config) -> None:
        """Uses these settings from now on."""
        self._limit_bytes = config.payload_limit_bytes
        self._admission = Admission(config)

    def may_preload(self, claim: Claim) -> bool:
        """True if the zygote may import the job's module: see Admission."""
        return self._admission.may_preload(claim)

    def start(self, claim: Claim, now: float) -> Outcome | None:
        """Gives the job to its worker. Returns None, or the outcome of a job that can't start."""
        worker = self._pool.workers.by_number[claim.worker]
        if not worker.wanted:
            return Released("its worker was taken away", is_usual=True)
        if worker.lacks_child:
            return Released("no process for it", is_usual=True)
        if claim.payload is None:
            payload = self._fetch_payload(claim, now)
            if not isinstance(payload, bytes):
                return payload
            claim = replace(claim, payload=payload)
        refusal = self._admission.judge(claim)
        if refusal is None:
            self._pool.assign(claim, now)
        return refusal

    def _fetch_payload(self, claim: Claim, now: float) -> bytes | Outcome:
        """Reads a payload that is too large for a turn's answer."""
        self._pool.start_assigned(now)  # the other jobs need not wait for this payload
        store, most_bytes = self._link.store, self._limit_bytes + 1
        payload = self._link.try_call(lambda: store.fetch_payload(claim.id, most_bytes), now)
        if payload is None:
            return Released("redis went away before its payload came")
        return payload or PAYLOAD_GONE
