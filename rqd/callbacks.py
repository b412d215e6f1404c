"""`Callback`, and the functions that its process calls. The code is in `rqd.client`."""

from rqd.client.callbacks import Callback
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from rqd.client.callback_runtime import callback_arguments as callback_arguments
    from rqd.client.callback_runtime import failure_of as failure_of

__all__ = ["Callback", "callback_arguments", "failure_of"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere(
        "rqd.callbacks",
        {
            "callback_arguments": "rqd.client.callback_runtime",
            "failure_of": "rqd.client.callback_runtime",
        },
    )
