"""What a running job tells its master besides its answer: progress, meta, a later deadline.

Of each kind the latest counts. One goes at once if none went a moment ago and it fits into the
socket; else a thread sends what is the latest by then. So the job never waits, the master gets a
few frames a second from a job that tells thousands, and what was told last before a crash is most
often there. What is left goes before the answer.
"""

from __future__ import annotations

import _signal
import _thread
from _socket import MSG_DONTWAIT
from time import monotonic, sleep

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygote.timer import timer

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

_PAUSE_S = 0.05
# The kernel takes a message of this size whole or not at all (it is one buffer of the socket's).
_WHOLE_BYTES = 16 * 1024
_PATIENCE_S = 5.0


class UpdateSender:
    """The child's end of what its jobs tell; `token` is that of the running one."""

    def __init__(
        self,
        channel: _socket.socket,
        pid: int,
        await_record: Callable[[float], dict[bytes, bytes] | None] = lambda _patience_s: None,
    ) -> None:
        self.token = b""
        self._await_record = await_record
        self.channel = channel
        self.pid = pid
        self._main = _thread.get_ident()
        self._latest: dict[int, bytes] = {}
        self._sending = _thread.allocate_lock()
        self._wake: _thread.LockType | None = None
        self._next_at = 0.0
        self._extended_s = 0.0

    def begin(self, token: bytes) -> None:
        """Another job runs from now on."""
        self.token = token
        self._extended_s = 0.0

    def progress(self, fraction: float, message: str) -> None:
        """How far the job is, from 0 to 1."""
        self._tell(protocol.PROGRESS, b"%.6g" % fraction, message.encode(errors="replace"))

    def save_meta(self, meta: bytes, signature: str) -> None:
        """The job's meta, serialized, and its signature where there are keys."""
        self._tell(protocol.META, meta, signature.encode())

    def extend(self, seconds: float) -> None:
        """The job may run so much longer: its own alarm first, then the master's deadline."""
        timer.extend(seconds)
        self._extended_s += seconds
        # The sum, so that it does not matter which of several such frames arrives.
        self._tell(protocol.EXTENDED, b"%.6f" % self._extended_s, is_urgent=True)

    def record(self) -> dict[bytes, bytes] | None:
        """The job's hash, as the master reads it now; None if it can't be had this way."""
        if _thread.get_ident() != self._main:
            return None  # one thread reads what the master sends
        self._tell(protocol.ASK, is_urgent=True)
        return self._await_record(_PATIENCE_S)

    def answer(self, answer: bytes) -> None:
        """Sends what is left to tell, and the job's answer; waits for both to be gone."""
        # Never without end: a handler of the job's own may have raised while it was held.
        is_ours = self._sending.acquire(True, _PATIENCE_S)
        try:
            self.channel.sendall(self._take() + answer)
        finally:
            if is_ours:
                self._sending.release()

    def _tell(self, kind: int, *fields: bytes, is_urgent: bool = False) -> None:
        self._latest[kind] = encode_frame(kind, self.token, *fields)
        is_early = monotonic() < self._next_at and not is_urgent
        if is_early or not self._send_at_once():
            self._leave_to_thread()

    def _send_at_once(self) -> bool:
        """False if something is left."""
        is_main = _thread.get_ident() == self._main
        if is_main:
            timer.is_held = True
        try:
            if not self._sending.acquire(False):
                return False
            try:
                return self._send_what_fits()
            finally:
                self._sending.release()
        finally:
            if is_main:
                timer.let_go()

    def _send_what_fits(self) -> bool:
        self._next_at = monotonic() + _PAUSE_S
        for kind in [*self._latest]:
            frame = self._latest.pop(kind, b"")
            try:
                if len(frame) <= _WHOLE_BYTES:
                    self.channel.send(frame, MSG_DONTWAIT)
                    continue
            except BlockingIOError:
                pass  # the socket is full
            except OSError:
                return True  # the master is gone, or the job closed our end: nobody to tell
            self._latest.setdefault(kind, frame)
            return False
        return True

    def _leave_to_thread(self) -> None:
        if self._wake is None:
            self._wake = _thread.allocate_lock()
            self._wake.acquire()
            try:
                _thread.start_new_thread(self._send_later, (self._wake,))
            except RuntimeError:
                return  # no thread may be started here: the answer brings it
        try:
            self._wake.release()
        except RuntimeError:
            pass  # it has been woken, and has not come to it yet

    def _send_later(self, wake: _thread.LockType) -> None:
        # Signals are the job's, and shall interrupt what its main thread waits for.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        while True:
            wake.acquire()
            sleep(max(0.0, self._next_at - monotonic()))
            with self._sending:
                self._next_at = monotonic() + _PAUSE_S
                try:
                    self.channel.sendall(self._take())
                except OSError:
                    return

    def _take(self) -> bytes:
        if not self._latest:
            return b""
        return b"".join([self._latest.pop(kind, b"") for kind in [*self._latest]])
