"""Decides in which order queues are claimed from, and which claimed jobs may reach a child.

The master checks bytes; it reads no pickle.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rqd.daemon.config import Config
from rqd.model.errors import NotAllowedError
from rqd.model.outcome import Outcome, Parked, Raised, Refused
from rqd.model.records import Claim
from rqd.model.terms import signed_id

# A key this host does not know may be a rotation that has not reached it yet.
PARKED_S = 30.0
# For a job whose payload lay beside its record, and is gone.
PAYLOAD_GONE = Raised("rqd.exceptions.DeserializationError", "its payload is gone from Redis", "")


class Precedence:
    """A master's queues as its turns name them, and their order, which Lua code carries out."""

    def __init__(self, config: Config) -> None:
        self._kind = config.precedence
        self._last_queue = ""
        self.queues = config.queues
        if config.weights:
            pairs = zip(config.weights, config.queues, strict=True)
            self.queues = tuple(f"{weight} {queue}" for weight, queue in pairs)

    def order(self) -> str:
        """Returns the order for the next turn; empty for the order of `queues`."""
        match self._kind:
            case "strict":
                return ""
            case "round-robin":
                return f"round_robin {self._last_queue}"
        return f"{self._kind} {random.getrandbits(31)}"

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Notes claims that go back as if not claimed: the first claim's queue comes next again."""
        first = min(claims, key=lambda claim: claim.fence).queue
        if self._kind == "round-robin" and first in self.queues:
            self._last_queue = self.queues[self.queues.index(first) - 1]

    def note(self, claims: Sequence[Claim]) -> None:
        """Notes the claims of a turn, so that the next turn goes on after their queue."""
        if claims:
            self._last_queue = claims[-1].queue


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
