"""Environment variables that are mistyped settings: nothing reads them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable

from rqd.cli.output import say
from rqd.cli.settings import FILE_VARIABLE, options_of, variable_of
from rqd.store.signing_keys import FILE_VARIABLE as KEY_FILE_VARIABLE
from rqd.store.signing_keys import KEY_VARIABLE

_PREFIX = "RQD_"
# All commands have these: with no others set, the options of `rqd start` need not be loaded.
_OF_ALL = {"RQD_URL", "RQD_NAMESPACE", FILE_VARIABLE, KEY_VARIABLE, KEY_FILE_VARIABLE}
_OF_UNITS = "RQD_OPTIONS"
# The dashboard's: a user as NAME:PASSWORD, a token.
WEB_USER, WEB_TOKEN = "RQD_WEB_USER", "RQD_WEB_TOKEN"
# Kubernetes sets such variables in all containers, for a Service whose name begins with rqd.
_OF_SERVICES = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_|$)")
# Stricter than for words typed at a prompt, as nobody can turn this off: RQD_PYTHON is no RQD_PATH.
_NEAR = 0.65


def warn_of_slips() -> None:
    """Prints the variables that are ignored, with the setting that was meant, in a line each."""
    for typed, meant in slips(os.environ).items():
        say(f"rqd: {typed} is ignored: did you mean {meant}?", err=True)


def slips(names: Iterable[str]) -> dict[str, str]:
    """Returns the mistyped variables, each with the setting's variable that it is near to.

    Other variables that begin with RQD_ may be another program's.
    """
    ours = {name for name in names if name.startswith(_PREFIX)} - {
        *_OF_ALL,
        _OF_UNITS,
        WEB_USER,
        WEB_TOKEN,
    }
    unsure = sorted(name for name in ours if not _OF_SERVICES.search(name))
    if not unsure:
        return {}
    from rqd.cli.start import command as start  # noqa: PLC0415 - see _OF_ALL

    known = _OF_ALL | {variable_of(option) for option in options_of(start)}
    found = {}
    for name in unsure:
        if name not in known and (meant := _nearest(name, known)):
            found[name] = meant
    return found


def _nearest(name: str, known: Iterable[str]) -> str | None:
    rests = {one.removeprefix(_PREFIX): one for one in known}  # in the prefix all are near
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), sorted(rests), 1, _NEAR)
    return rests[near[0]] if near else None
