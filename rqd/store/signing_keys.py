"""Reads the signing keys from `RQD_SIGNING_KEY`, or from the file in `RQD_SIGNING_KEY_FILE`."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rqd.model.errors import ConfigurationError

if TYPE_CHECKING:
    from rqd.model.signing import Keyring

KEY_VARIABLE = "RQD_SIGNING_KEY"
FILE_VARIABLE = "RQD_SIGNING_KEY_FILE"
_FILE_LIMIT_BYTES = 64 * 1024


def keyring_of(environment: Mapping[str, str]) -> Keyring | None:
    """Returns the keys in an environment, None if it has none.

    `RQD_SIGNING_KEY` is the key itself, or several separated by commas; `RQD_SIGNING_KEY_FILE` a
    file with a key a line. Raises ConfigurationError for unfit keys, or an unfit file.
    """
    if text := environment.get(KEY_VARIABLE):
        return _keyring([key.strip() for key in text.split(",")], KEY_VARIABLE)
    if path := environment.get(FILE_VARIABLE):
        return _keyring(_read(path), f"{FILE_VARIABLE} {path}")
    return None


def _keyring(secrets: list[str], source: str) -> Keyring:
    # Late: without a key nobody loads hmac.
    from rqd.model.signing import Keyring  # noqa: PLC0415 - see above

    try:
        return Keyring([secret for secret in secrets if secret])
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def _read(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigurationError(f"{FILE_VARIABLE} {path}: it is no regular file")
            if mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise ConfigurationError(
                    f"{FILE_VARIABLE} {path}: others have access: chmod 600, or 640 for a group"
                )
            data = file.read(_FILE_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{FILE_VARIABLE} {path}: it can't be read: {error}") from None
    if len(data) > _FILE_LIMIT_BYTES:
        raise ConfigurationError(f"{FILE_VARIABLE} {path}: it is too large for a file of keys")
    lines = data.decode("ascii", errors="replace").splitlines()
    return [line.strip() for line in lines if not line.lstrip().startswith("#")]
