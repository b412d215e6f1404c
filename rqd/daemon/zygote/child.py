"""The child: receives a job, calls the function, answers, and exits by `os._exit`.

Every fork pays for its set-up, so it is short. The zygote installs the signal handlers before the
fork. `_signal` and `_socket` are the C modules, without the enums of `signal` and `socket`
(measured: 22 us against 175 us a fork for resetting signals).
"""

from __future__ import annotations

import _socket
import os
import sys
from fcntl import fcntl
from os import _exit, close, dup2, fstat, getpid, set_blocking, setpgid
from resource import RUSAGE_SELF, getrusage
from select import poll
from time import localtime, monotonic, monotonic_ns, process_time_ns, time

from rqd.daemon.zygote import protocol
from rqd.daemon.zygote.coroutines import event_loop
from rqd.daemon.zygote.exit_cleanup import end_children, has_children
from rqd.daemon.zygote.job_source import JobSource
from rqd.daemon.zygote.protocol import JOB, SUCCEEDED, encode_frame, mark_of
from rqd.daemon.zygote.runner import run_call
from rqd.daemon.zygote.signal_handlers import give_back_signals_at_fork
from rqd.daemon.zygote.timer import timer
from rqd.daemon.zygote.updates import UpdateSender
from rqd.model.current import CurrentJob, of_process
from rqd.model.serializers import PickleSerializer
from rqd.model.trust import Trust

TYPE_CHECKING = False  # in place of typing's, whose import every fork would pay for
if TYPE_CHECKING:
    from collections.abc import Callable

EX_SOFTWARE = 70
_F_SETOWN_EX, _F_OWNER_PGRP = 15, 2  # fcntl.h; Python has no names for them
_NOTHING_USED = (b"0",) * protocol.USED_FIELDS
_REHEARSALS = 64
_DIGITS = tuple(f"{number:02}" for number in range(60))  # not formatted in each child
_NOWHERE = _socket.socket.__new__(_socket.socket)  # closed


_NO_OP_CALL = PickleSerializer.dumps(("builtins.bool", None, (), {}))
_NO_OP_JOB = (b"id", b"1:n", b"1", b"q", b"builtins.bool", _NO_OP_CALL, b"pickle", b"60")


class Child:
    """A child's objects, made once by the zygote, so that each child finds them ready.

    An object made after the fork is a page to copy, and its class another page. So is a module
    that a name is looked up in, a generator, a list comprehension.
    """

    __slots__ = (
        *("_current", "_source", "_seeds", "_set_title", "_sender", "_trust", "_utc_offset_s"),
        "jobs",
    )

    def __init__(
        self,
        jobs: int,
        set_title: Callable[[str], None],
        trust: Trust,
        current: CurrentJob = of_process,
    ) -> None:
        """`jobs`: the number of jobs that a child runs. `current`: where their code finds each."""
        self.jobs = jobs
        self._current = current
        self._set_title = set_title
        self._trust = trust
        self._source = JobSource(_NOWHERE, self._warm_up)
        self._sender = UpdateSender(_NOWHERE, getpid(), self._source.record)
        timer.ask_more = self._source.ask_more
        current.line = self._sender
        self._seeds = _seeds()
        self.read_clock()

    def read_clock(self) -> None:
        """Notes the offset of local time to UTC, for the titles."""
        # The zygote does so, as in a child the C library's time zones are seven pages to copy.
        self._utc_offset_s = localtime().tm_gmtoff

    def live(
        self,
        worker: int,
        channel: _socket.socket,
        mailbox: _socket.socket | None,
        pipes: Pipes,
        others: tuple[int, ...],
    ) -> None:
        """Runs jobs from the mailbox, or the channel if it has none; exits the process.

        Closes `others`: descriptors that are not the child's, such as the channel's other end.
        """
        status = EX_SOFTWARE
        try:
            for fd in others:
                close(fd)
            give_back_signals_at_fork()
            self.set_up(worker, pipes)
            status = self.serve(worker, channel, mailbox, pipes.output_fd)
            event_loop.close()
            # Most children have not loaded it: then there is nothing to ask the kernel for.
            if "_posixsubprocess" in sys.modules and has_children():
                end_children()
        except BaseException:  # noqa: BLE001 - nothing may unwind into the zygote's stack
            sys.excepthook(*sys.exc_info())
            _flush()
        finally:
            _exit(status)

    def serve(
        self,
        worker: int,
        channel: _socket.socket,
        mailbox: _socket.socket | None = None,
        output_fd: int = -1,
    ) -> int:
        """Runs jobs from the mailbox, or the channel; returns the exit status."""
        pid = getpid()
        jobs, source, sender = self.jobs, self._source, self._sender
        source.channel = sender.channel = channel
        source.mailbox = mailbox
        sender.pid = pid
        outputs = _outputs(mailbox) if jobs > 1 else None
        own = fstat(channel.fileno()).st_ino
        for left in range(jobs, 0, -1):
            fields = source.next_job()
            if fields is None:
                return 0  # the master closed the channel: no more work here
            sender.begin(source.token)
            if source.start_by and not _begins_behind(source, output_fd):
                sender.answer(encode_frame(protocol.TOO_LATE, source.token, *_NOTHING_USED))
                continue
            answer = self._perform(worker, fields)
            _flush()
            if getpid() != pid:
                _exit(0)  # the job forked and returned in both: only the child itself answers
            if fstat(channel.fileno()).st_ino != own:
                # Nobody would read its answer, nor see its end while it waits for the next job.
                raise OSError("the job has put something else in the place of its channel")
            # True if the job closed or redirected its outputs, or left a process that may write to
            # them: then the next job gets another child. LAST goes before the answer, as that
            # brings the next job.
            is_last = left > 1 and (_outputs(mailbox) != outputs or has_children())
            sender.answer(encode_frame(protocol.LAST, source.token) + answer if is_last else answer)
            if is_last:
                return 0
            if left > 1:
                self._set_title(f"rqd: worker {worker} idle")
        return 0

    def set_up(self, worker: int, pipes: Pipes) -> None:
        """Makes this process the worker's child: its group, life pipe, outputs and title."""
        pid = getpid()
        setpgid(0, 0)
        # From here on the kernel kills this process group when the master's end of the pipe closes.
        # Not by F_SETOWN, as `fcntl` raises and catches a TypeError if it is passed a number.
        owner = _F_OWNER_PGRP.to_bytes(4, sys.byteorder) + pid.to_bytes(4, sys.byteorder)
        fcntl(pipes.life_fd, _F_SETOWN_EX, owner)
        # If the master died before that, this poll shows it: no order of events leaves us alive.
        poll_life, set_title = pipes.poll_life, self._set_title
        if poll_life(0):
            _exit(0)
        if pipes.join_fd >= 0:
            _join_group(pipes.join_fd)
        output_fd = pipes.output_fd
        set_blocking(output_fd, True)  # an earlier job may have changed the shared pipe's flags
        dup2(output_fd, 1)
        dup2(output_fd, 2)
        dup2(pipes.stack_fd, pipes.stack_at_fd, False)
        set_title(f"rqd: worker {worker} idle")
        self._source.warm_up_pending = True
        for seed in self._seeds:
            seed()

    def _warm_up(self) -> None:
        """Runs a job that does nothing while no job comes, to copy the pages that a job touches.

        So the first line of the real job comes sooner.
        """
        current = self._current
        set_title, middleware, current.middleware = self._set_title, current.middleware, None
        self._set_title = _keep_title
        timer.is_held = True  # an order to stop is for the real job, which comes after it
        self._perform(0, list(_NO_OP_JOB))
        timer.is_held = False
        self._set_title, current.middleware = set_title, middleware

    def _perform(self, worker: int, fields: list[bytes]) -> bytes:
        job_id, token, attempt, queue, func_name, payload, serializer, timeout, *terms = fields
        id_text, queue_text, name_text = job_id.decode(), queue.decode(), func_name.decode()
        set_title, job = self._set_title, f"{name_text} [{queue_text}] {id_text[:8]}"
        set_title(f"rqd: worker {worker} {job} since {self._clock()}")
        fence, terms_text = int(token.split(b":", 1)[0]), terms[0].decode() if terms else ""
        current = self._current
        current.enter(id_text, queue_text, int(attempt), fence, name_text, terms_text)
        peak_kib = getrusage(RUSAGE_SELF).ru_maxrss
        wall_ns, cpu_ns = monotonic_ns(), process_time_ns()
        loaded = [wall_ns]
        call = payload, serializer.decode(), self._trust.allowlist
        kind, *answer = run_call(current, call, float(timeout), loaded)
        wall_us = (monotonic_ns() - wall_ns) // 1000
        cpu_us = (process_time_ns() - cpu_ns) // 1000
        load_us = (loaded[0] - wall_ns) // 1000
        grown_kib = getrusage(RUSAGE_SELF).ru_maxrss - peak_kib
        current.leave()
        if kind == SUCCEEDED and self._trust.keyring is not None:
            answer.append(self._trust.sign_result(job_id, token, serializer, answer[0]))
        answer += str(wall_us).encode(), str(cpu_us).encode(), str(load_us).encode()
        return encode_frame(kind, token, *answer, str(grown_kib * 1024).encode())

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time()) + self._utc_offset_s, 60)
        return f"{_DIGITS[minutes // 60 % 24]}:{_DIGITS[minutes % 60]}:{_DIGITS[seconds]}"


def _keep_title(_title: str) -> None:
    pass


def _seeds() -> tuple[Callable[[], object], ...]:
    """Returns functions that seed the loaded libraries, so that children draw different numbers.

    `random` seeds itself after a fork.
    """
    torch = getattr(sys.modules.get("torch"), "default_generator", None)
    seeds = getattr(sys.modules.get("numpy.random"), "seed", None), getattr(torch, "seed", None)
    return tuple(seed for seed in seeds if seed is not None)


def rehearse(jobs: int, trust: Trust, stack_at_fd: int) -> None:
    """Runs a child's whole path with a job that does nothing, in the zygote before it forks.

    The interpreter rewrites code in its first runs (PEP 659). Code that it rewrites after the fork
    is a page to copy in every child.
    """
    frame = encode_frame(JOB, *_NO_OP_JOB)
    life_read, life_write = os.pipe()
    stack_fd = os.dup(stack_at_fd)
    pipes = Pipes(2, life_read, stack_fd, stack_at_fd)
    child = Child(jobs, _keep_title, trust)
    for _ in range(_REHEARSALS):
        near, far = _socket.socketpair()
        near.sendall(frame)
        near.shutdown(_socket.SHUT_WR)  # no other job
        # It changes nothing here: the zygote leads its group, and its outputs are one descriptor.
        child.set_up(0, pipes)
        child.serve(0, far)
        near.close()
        far.close()
    for fd in (life_read, life_write, stack_fd):
        os.close(fd)


def serve_inline(channel: _socket.socket, trust: Trust, current: CurrentJob) -> None:
    """Runs a job from the channel in this process, which is no child: see inline.py."""
    Child(1, _keep_title, trust, current).serve(0, channel)


class Pipes:
    """The descriptors of a slot, for its children.

    `output_fd` is the pipe for output, `life_fd` the pipe that closes when the master dies.
    `stack_fd` is the file for stacks; faulthandler writes to `stack_at_fd`, where children put it.
    `join_fd` is the file by which they join the control group; -1 for none.
    """

    __slots__ = ("join_fd", "life_fd", "output_fd", "poll_life", "stack_at_fd", "stack_fd")

    def __init__(
        self, output_fd: int, life_fd: int, stack_fd: int, stack_at_fd: int, join_fd: int = -1
    ) -> None:
        self.output_fd = output_fd
        self.life_fd = life_fd
        self.stack_fd = stack_fd
        self.stack_at_fd = stack_at_fd
        self.join_fd = join_fd
        watch = poll()
        watch.register(life_fd, 0)  # no event but the pipe's end
        # Bound and called once before the fork, so that each child finds it ready.
        self.poll_life = watch.poll
        self.poll_life(0)


def _begins_behind(source: JobSource, output_fd: int) -> bool:
    """Marks in the output where this job's begins. False if it is too late to begin the job.

    A master that stood still may have lost the job to another master.
    """
    try:
        set_blocking(output_fd, True)  # as in `set_up`
        os.write(output_fd, mark_of(source.token))
    except OSError:
        pass  # the previous job has closed it
    # Read only now, as a write to a full pipe waits for the master.
    return monotonic() <= source.start_by


def _join_group(join_fd: int) -> None:
    try:
        os.write(join_fd, b"0")
    except OSError:
        pass  # the group is gone: the master samples the job all the same


def _outputs(mailbox: _socket.socket | None) -> tuple[object, ...] | None:
    """Returns an identity of the outputs and the mailbox, to notice if a job replaces them.

    None if a descriptor or stream is missing.
    """
    try:
        source = fstat(mailbox.fileno()).st_ino if mailbox is not None else 0
        return source, fstat(1).st_ino, fstat(2).st_ino, sys.stdout.closed, sys.stderr.closed
    except (OSError, AttributeError):
        return None


def _flush() -> None:
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        pass  # the job closed or replaced it; its output is its own affair
    try:
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
