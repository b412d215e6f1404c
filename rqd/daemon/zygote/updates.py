"""Sends a running job's updates to its master: progress, meta, a later deadline.

Only the latest update of each kind counts. An update goes at once if none went a moment ago and it
fits into the socket. Otherwise a thread sends the latest one a moment later. So the job never
waits, and the master gets a few frames a second from a job that makes thousands. The last update
before a crash has most often arrived. Updates that are left go before the answer.
"""

from __future__ import annotations

import _signal
import _thread
from _socket import MSG_DONTWAIT
from time import monotonic, sleep

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.protocol import encode_frame
from rqd.daemon.zygote.timer import timer

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

_PAUSE_S = 0.05
# The kernel accepts a message of this size whole or not at all (it is a single socket buffer).
_WHOLE_BYTES = 16 * 1024
_PATIENCE_S = 5.0


class UpdateSender:
    """Sends updates and answers of a child's jobs; `token` is the running job's."""

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
        """Notes that another job runs from now on."""
        self.token = token
        self._extended_s = 0.0

    def progress(self, fraction: float, message: str) -> None:
        """Sends the job's progress, from 0 to 1, with a message."""
        self._tell(protocol.PROGRESS, b"%.6g" % fraction, message.encode(errors="replace"))

    def save_meta(self, meta: bytes, signature: str) -> None:
        """Sends the job's serialized meta, and its signature if there are keys."""
        self._tell(protocol.META, meta, signature.encode())

    def extend(self, seconds: float) -> None:
        """Extends the job's time limit: its own alarm first, then the master's deadline."""
        timer.extend(seconds)
        self._extended_s += seconds
        # The sum of all extensions, as only the latest of several frames may arrive.
        self._tell(protocol.EXTENDED, b"%.6f" % self._extended_s, is_urgent=True)

    def record(self) -> dict[bytes, bytes] | None:
        """Returns the job's hash, which the master reads now; None if that fails.

        It fails in other threads than the main thread, and after 5 seconds.
        """
        if _thread.get_ident() != self._main:
            return None  # only the main thread reads the master's frames
        self._tell(protocol.ASK, is_urgent=True)
        return self._await_record(_PATIENCE_S)

    def answer(self, answer: bytes) -> None:
        """Sends the updates that are left and the job's answer; waits until both are sent."""
        # With a limit, as a handler of the job's own may have raised while it held the lock.
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
        """Sends updates without waiting; False if some are left."""
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
                return True  # the master is gone, or the job closed our end: nobody would read it
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
                return  # no thread can start here: the updates go with the answer
        try:
            self._wake.release()
        except RuntimeError:
            pass  # the thread was woken already, and has not run yet

    def _send_later(self, wake: _thread.LockType) -> None:
        # Signals are for the job: they must interrupt its main thread, not this one.
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
