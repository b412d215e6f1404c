"""`Webhook`; `send` is stored by this name in Redis. The code is in `rqd.client`."""

from rqd.client.rq_compat import names_elsewhere
from rqd.client.webhook import Webhook, send

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["Webhook", "send"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.webhook", {})
