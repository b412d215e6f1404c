"""Commands to workers, at RQ's path. The code is in `rqd.client`."""

from rqd.client.control import send_kill_horse_command, send_shutdown_command, send_stop_job_command
from rqd.client.rq_compat import names_elsewhere

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork

__all__ = ["send_kill_horse_command", "send_shutdown_command", "send_stop_job_command"]

if not TYPE_CHECKING:  # type checkers know which names exist
    __getattr__ = names_elsewhere("rqd.command", {})
