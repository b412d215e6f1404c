"""Groups, at RQ's path. The code is in `rqd.client`."""

from rqd.client.group import Group
from rqd.client.rq_compat import names_elsewhere
from rqd.store.queue_queries import GroupCounts

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["Group", "GroupCounts"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.group", {})
