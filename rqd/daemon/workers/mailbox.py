"""Passes prefetched jobs to a child: a socket of which the master has both ends.

A message is a job. The master can read messages, too, and so takes back the jobs that the child has
not begun. The kernel gives each message to one reader. So the holder of a job is never in doubt,
even after a SIGKILL between two instructions.
"""

from __future__ import annotations

import socket

from rqd.daemon.zygote.protocol import FrameReader

# A child reads a message with a buffer of this size; more would be cut off.
LONGEST_MESSAGE_BYTES = 64 * 1024


class Mailbox:
    """The mailbox of a child, from its fork to its end."""

    def __init__(self, near_fd: int, far_fd: int) -> None:
        """`near_fd` is the end to write to, `far_fd` a copy of the child's own end."""
        self.near = socket.socket(fileno=near_fd)
        # Never made non-blocking: the child's own end would become so, too.
        self.far = socket.socket(fileno=far_fd)

    def post(self, frame: bytes) -> bool:
        """Puts a frame there; False if there is no room, or no reader any more."""
        try:
            self.near.send(frame, socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def take_back(self) -> set[str]:
        """Empties it; returns the tokens of the jobs that the child has not read and never will."""
        tokens: set[str] = set()
        while True:
            try:
                message = self.far.recv(LONGEST_MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except OSError:
                return tokens
            if not message:
                return tokens  # it was closed from our side
            for _, fields in FrameReader().feed(message):
                tokens.add(fields[1].decode())

    def end(self) -> None:
        """Closes the way in. The child reads the end after the jobs that are there."""
        self.near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes the way in and the master's descriptors.

        The child still gets the jobs that are there: call `take_back` before.
        """
        self.end()
        self.near.close()
        self.far.close()
