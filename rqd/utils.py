"""RQ's helpers, at RQ's path: rqd has none, and an import says what to write instead."""

from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.utils", {})
