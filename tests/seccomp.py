"""Executes a program where some system calls are refused, as by a container's seccomp profile.

    python tests/seccomp.py NUMBER,.. PROGRAM ARGUMENT..

Numbers from 424 on are the same on all architectures (pidfd_open is 434, pidfd_send_signal 424).
"""

import ctypes
import errno
import os
import struct
import sys

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
# linux/filter.h and linux/seccomp.h
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ANSWER_ERROR = 0x7FFF0000, 0x00050000


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def withhold(numbers: list[int]) -> None:
    """EPERM for these system calls, here and in all that comes of this process."""
    steps = [(_LOAD_WORD, 0, 0, 0)]  # the call's number
    for number in numbers:
        steps += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ANSWER_ERROR | errno.EPERM)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    libc = ctypes.CDLL(None, use_errno=True)
    told = _Filter(len(steps), program)
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(told)),
    ):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    withhold([int(number) for number in sys.argv[1].split(",")])
    os.execvp(sys.argv[2], sys.argv[2:])
