"""What a master is started with."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rqd.model.errors import ConfigurationError
from rqd.model.names import check_name, check_queue_name

MAX_WORKERS = 1000


@dataclass(frozen=True, slots=True)
class Config:
    """A master's settings, checked. `grace_s` in seconds; `name` None is the host's and a number.

    Raises ConfigurationError for what can't be.
    """

    url: str
    namespace: str = "rqd"
    queues: tuple[str, ...] = ("default",)
    workers: int = 4
    preload: tuple[str, ...] = ()
    jobs_per_child: int = 1
    grace_s: float = 30.0
    burst: bool = False
    path: tuple[str, ...] = (".",)
    name: str | None = None

    def __post_init__(self) -> None:
        check_name(self.namespace, "namespace")
        if self.name is not None:
            check_name(self.name, "master name")
        if not self.queues:
            raise ConfigurationError("--queues is empty: write at least one name, high,low")
        for queue in self.queues:
            check_queue_name(queue)
        if len(set(self.queues)) < len(self.queues):
            raise ConfigurationError(f"--queues {','.join(self.queues)} names a queue twice")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigurationError(f"--workers {self.workers}: write 1 to {MAX_WORKERS}")
        if self.jobs_per_child < 1:
            raise ConfigurationError(f"--jobs-per-child {self.jobs_per_child}: write 1 or more")
        if self.grace_s < 0:
            raise ConfigurationError(f"--grace {self.grace_s:g}: write seconds, 0 or more")
        self._check_application()

    def _check_application(self) -> None:
        for folder in self.path:
            if not os.path.isdir(folder):
                raise ConfigurationError(f"--path {folder}: there is no such folder")
        for module in self.preload:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ConfigurationError(f"--preload {module}: write dotted module names")
