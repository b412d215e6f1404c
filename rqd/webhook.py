"""`Webhook`; `send` is stored by this name in Redis. The code is in `rqd.client`."""

from rqd.client.rq_compat import names_elsewhere
from rqd.client.webhook import Webhook

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from rqd.client.callback_runtime import send as send

__all__ = ["Webhook", "send"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.webhook", {"send": "rqd.client.callback_runtime"})
