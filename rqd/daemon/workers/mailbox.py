"""The jobs that a child was given ahead: a socket of which its master has both ends.

A message is a job. The kernel gives each to one reader: to the child, when it comes to it, or to
the master, which takes back what the child has not begun. So who has a job is never in doubt, even
after a SIGKILL between two instructions.
"""

from __future__ import annotations

import socket

from rqd.daemon.zygote.protocol import FrameReader

# A child reads a message with a buffer of this size; more would be cut off.
LONGEST_MESSAGE_BYTES = 64 * 1024


class Mailbox:
    """One child's, from its fork to its end."""

    def __init__(self, near_fd: int, far_fd: int) -> None:
        """Of the end to write to, and of a copy of the child's own end."""
        self.near = socket.socket(fileno=near_fd)
        # Never made non-blocking: that would make the child's own end so, too.
        self.far = socket.socket(fileno=far_fd)

    def post(self, frame: bytes) -> bool:
        """Puts a frame there; False if there is no room, or nobody reads any more."""
        try:
            self.near.send(frame, socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def take_back(self) -> set[str]:
        """Empties it: the tokens of the jobs that the child has not got, and never will."""
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
        """Nothing more will come: the child reads that after what is there."""
        self.near.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """As `end`, and forgets it. What is there the child still takes: see `take_back`."""
        self.end()
        self.near.close()
        self.far.close()
