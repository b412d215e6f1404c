"""Decides which claimed jobs may reach a child, and gives them to their workers.

The master checks bytes; it reads no pickle.
"""

from __future__ import annotations

from dataclasses import replace

from rqd.daemon.config import Config
from rqd.daemon.log.log import Log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.workers.pool import Pool
from rqd.model.errors import NotAllowedError
from rqd.model.names import module_of
from rqd.model.outcome import Outcome, Parked, Raised, Refused, Released
from rqd.model.records import Claim
from rqd.model.terms import signed_id

# A key this host does not know may be a rotation that has not reached it yet.
PARKED_S = 30.0
_SLOW_LOAD_S = 0.05
# For a job whose payload lay beside its record, and is gone.
PAYLOAD_GONE = Raised("rqd.exceptions.DeserializationError", "its payload is gone from Redis", "")


class Admission:
    """The daemon's rules for signatures, serializers and sizes of payloads."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._namespace = config.namespace.encode()

    def judge(self, claim: Claim) -> Outcome | None:
        """Returns the outcome for a job that must not run; None if it may."""
        config = self._config
        size_bytes = len(claim.payload or b"")
        if size_bytes > config.payload_limit_bytes:
            return Refused(
                f"its payload has more than {config.payload_limit_bytes:,} bytes, the daemon's"
                " --payload-limit"
            )
        if config.serializers and claim.serializer not in config.serializers:
            accepted = ",".join(config.serializers)
            return Refused(
                f"its serializer {claim.serializer} is not among --serializers {accepted}"
            )
        return self._judge_signature(claim) if config.keyring is not None else None

    def may_preload(self, claim: Claim) -> bool:
        """True if the zygote may import the module that an admitted job names.

        The name stands beside the payload. Without a signature anybody may have written it there,
        and the child has checked only the payload against the allowlist.
        """
        if self._config.keyring is not None and claim.envelope is None:
            return False
        if self._config.allow:
            from rqd.model.allowlist import Allowlist  # noqa: PLC0415 - loaded with a list, if any

            try:
                Allowlist(self._config.allow).check(claim.func_name)
            except NotAllowedError:
                return False
        return True

    def _judge_signature(self, claim: Claim) -> Outcome | None:
        from rqd.model.signing import JOB, Verdict  # noqa: PLC0415 - loaded with the keys, if any

        assert self._config.keyring is not None
        envelope = claim.envelope
        if envelope is None:
            return Refused("not signed") if self._config.require_signed else None
        about = signed_id(claim.id, claim.terms).encode()
        facts = (self._namespace, about, *envelope.facts)
        verdict = self._config.keyring.verify(envelope.signature, JOB, facts, claim.payload or b"")
        match verdict:
            case Verdict.GOOD:
                return None
            case Verdict.UNKNOWN_KEY:
                key_id = envelope.signature.partition(":")[0]
                return Parked(f"signed with key {key_id}, which this daemon lacks", PARKED_S)
            case _:
                return Refused("its signature is wrong")


class Starter:
    """Gives claimed jobs to the workers that they were claimed for."""

    def __init__(self, config: Config, link: RedisLink, pool: Pool, log: Log) -> None:
        self.configure(config)
        self._link = link
        self._pool = pool
        self._log = log
        self._advised: set[str] = set()  # modules whose imports by jobs were logged

    def configure(self, config: Config) -> None:
        """Uses these settings from now on."""
        self._limit_bytes = config.payload_limit_bytes
        self._admission = Admission(config)

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

    def note_import(self, claim: Claim, load_s: float, now: float) -> None:
        """Has the zygote preload a module that a job imported in `load_s` seconds.

        Warns once of the module's cost if the zygote can't.
        """
        module = module_of(claim.func_name)
        if self._admission.may_preload(claim) and self._pool.forking.learn(module, load_s, now):
            return
        if load_s >= _SLOW_LOAD_S and module not in self._advised:
            self._advised.add(module)
            self._log.warning(
                "a job imported its module itself, --preload does it once for all",
                preload=module,
                import_ms=round(load_s * 1000),
            )
