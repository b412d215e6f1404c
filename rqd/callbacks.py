"""`Callback`, and what its process calls, which loads redis-py. The code is in `rqd.client`."""

from rqd.client.callback_runtime import callback_arguments, failure_of
from rqd.client.callbacks import Callback
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["Callback", "callback_arguments", "failure_of"]

if not TYPE_CHECKING:  # type checkers know what is there, and what is not
    __getattr__ = names_elsewhere("rqd.callbacks", {})
