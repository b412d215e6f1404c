"""The stack of a running job. The code is in `rqd.client`."""

from rqd.client.control import LiveStack, live_stack
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["LiveStack", "live_stack"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.stacks", {})
