"""The copies that an enqueue waits for, besides the primary's own memory."""

from __future__ import annotations

from dataclasses import dataclass

from rqd.model.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Durability:
    """The replicas to wait for; with `aof`, the disks of the primary and of these replicas."""

    replicas: int = 0
    aof: bool = False
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        if self.replicas < 0:
            raise ConfigurationError(f"wait_replicas {self.replicas}: write 0 or more")
        if self.timeout_s <= 0:
            raise ConfigurationError(f"wait_timeout {self.timeout_s:g}: write seconds, above 0")

    def __bool__(self) -> bool:
        return self.replicas > 0 or self.aof

    def command(self) -> tuple[str | int, ...]:
        """Returns the Redis command that waits for these copies."""
        timeout_ms = max(1, round(self.timeout_s * 1000))
        if self.aof:
            return "WAITAOF", 1, self.replicas, timeout_ms
        return "WAIT", self.replicas, timeout_ms

    def shortfall(self, answer: int | list[int]) -> str | None:
        """Says in words which copies the command's answer lacks; None if all were reached."""
        disks, replicas = (1, answer) if isinstance(answer, int) else answer
        if disks and replicas >= self.replicas:
            return None
        parts = []
        if self.aof:
            parts.append(f"its disk {'had' if disks else 'did not have'} it")
        if self.replicas:
            what = "replicas' disks" if self.aof else "replicas"
            parts.append(f"{replicas} of {self.replicas} {what} had it")
        return f"after {self.timeout_s:g} s " + " and ".join(parts)
