"""Registries, at RQ's path. The code is in `rqd.client`."""

from rqd.client.queue import (
    BaseRegistry,
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
    clean_registries,
)
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = [
    "BaseRegistry",
    "CanceledJobRegistry",
    "DeferredJobRegistry",
    "FailedJobRegistry",
    "FinishedJobRegistry",
    "ScheduledJobRegistry",
    "StartedJobRegistry",
    "clean_registries",
]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.registry", {})
