"""Serializers: by name, by RQ's contract, and the default."""

from __future__ import annotations

# The C module that `pickle` wraps: the zygote imports it before the fork, without the struct, re
# and io that come with the wrapper. A child that imported `pickle` itself ran at half the speed.
import _pickle as pickle
import sys
from typing import Any, Protocol

from rqd.model.errors import ConfigurationError

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from typing import Any


_PROTOCOL = 5  # the highest of Python 3.11


class PickleSerializer:
    """Python's pickle at its highest protocol: any importable object."""

    @staticmethod
    def dumps(obj: Any, /) -> bytes:
        return pickle.dumps(obj, protocol=_PROTOCOL)

    loads = pickle.loads


class JSONSerializer:
    """JSON in UTF-8: plain values only; tuples come back as lists."""

    @staticmethod
    def dumps(obj: Any, /) -> bytes:
        import json  # noqa: PLC0415 - the child pays for json only where a job uses it

        return json.dumps(obj, separators=(",", ":")).encode()

    @staticmethod
    def loads(data: bytes, /) -> Any:
        import json  # noqa: PLC0415 - as in dumps

        return json.loads(data)


_BY_NAME: dict[str, Serializer] = {"pickle": PickleSerializer, "json": JSONSerializer}
BUILT_IN = tuple(_BY_NAME)


def resolve_serializer(name: str) -> Serializer:
    """Returns the serializer named `pickle`, `json`, or by a dotted path; it has dumps and loads.

    Raises ConfigurationError if there is none.
    """
    if found := _BY_NAME.get(name):
        return found
    module_name, _, attribute = name.rpartition(".")
    try:
        if module_name:
            found = getattr(__import__(module_name, fromlist=[attribute]), attribute)
        else:
            __import__(name)
            found = sys.modules[name]
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"serializer {name!r} can't be loaded ({error}): write pickle, json or a dotted path"
        ) from error
    if not (hasattr(found, "dumps") and hasattr(found, "loads")):
        raise ConfigurationError(f"serializer {name!r} has no dumps and loads")
    return found


def serializer_name(serializer: str | Serializer | None) -> str:
    """Returns the name under which workers find this serializer; None is pickle.

    Raises ConfigurationError if they would not find it: an instance, or a class that is no
    attribute of its module.
    """
    if serializer is None:
        return "pickle"
    # A serializer of ours has a single name, in any spelling: a job's is compared with the wanted
    # name.
    given: Any = resolve_serializer(serializer) if isinstance(serializer, str) else serializer
    for name, known in _BY_NAME.items():
        if given is known or given is sys.modules.get(name):
            return name
    if isinstance(serializer, str):
        return serializer
    is_module = isinstance(given, type(sys))
    name = given.__name__ if is_module else f"{_module_of(given)}.{_name_of(given)}"
    if name.startswith("__main__.") or resolve_serializer(name) is not serializer:
        raise ConfigurationError(
            f"serializer {serializer!r} can't be found by workers as {name!r}: pass a class or"
            " module that they can import, or its dotted path"
        )
    return name


def _module_of(given: Any) -> str:
    return str(getattr(given, "__module__", None))


def _name_of(given: Any) -> str:
    return str(getattr(given, "__qualname__", None) or type(given).__qualname__)


class Serializer(Protocol):
    """Anything with `dumps` and `loads`; a module will do (RQ's contract)."""

    def dumps(self, obj: Any, /) -> bytes: ...

    def loads(self, data: bytes, /) -> Any: ...
