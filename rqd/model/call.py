"""A function call as bytes, and back: the payload of a job.

The payload is the serialized tuple (function name, instance, args, kwargs), RQ's own idea:
functions travel by name, bound methods as their instance and the method's name.
"""

from __future__ import annotations

import sys
from functools import lru_cache, partial

from rqd.model.errors import ConfigurationError, InvalidCallError, PayloadTooLargeError
from rqd.model.serializers import resolve_serializer

TYPE_CHECKING = False  # as typing has it, whose import would be paid at every fork
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Rules(Protocol):
        """Decides which names a payload may use: an Allowlist."""

        def loader(self, serializer: str) -> Callable[[bytes], Any]:
            """Returns the function that reads values of this serializer."""

        def find(self, name: str, instance: Any) -> Callable[..., Any]:
            """Returns the function or method that a call names."""


DEFAULT_PAYLOAD_LIMIT_BYTES = 64 * 1024 * 1024
# The frame that carries a payload to its child holds 256 MiB, names included.
HIGHEST_PAYLOAD_LIMIT_BYTES = 240 * 1024 * 1024


def name_function(function: Any) -> tuple[str, Any]:
    """Returns the name by which workers find a callable, and its instance (None for functions).

    Raises InvalidCallError for a callable that no other process can find: lambdas, nested
    functions, functions and instances of `__main__`.
    """
    if type(function) is _FUNCTION:
        return _check_function(function.__module__, function.__qualname__), None
    if isinstance(function, str):
        return _check_dotted(function), None
    if not callable(function):
        raise InvalidCallError(f"{function!r} is not callable: pass a function or its dotted name")
    instance = getattr(function, "__self__", None)
    if instance is not None and not isinstance(instance, type(sys)):
        # A bound method; a builtin's __self__ is its module.
        return _check_method(function.__name__, instance), instance
    if not hasattr(function, "__qualname__"):
        # An instance with __call__, functools.partial among them.
        if isinstance(function, partial):
            name_function(function.func)
        return _check_method("__call__", function), function
    # A method of a C type has no __module__ of its own.
    home = function if hasattr(function, "__module__") else function.__objclass__
    return _check_function(home.__module__, function.__qualname__), None


_FUNCTION = type(name_function)  # as most callables are; no attribute has to be looked for


def encode_call(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    serializer: str = "pickle",
    limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES,
) -> tuple[str, bytes]:
    """Returns the function's full name, a method's with its class, and the call's payload.

    Raises InvalidCallError if it can't be serialized, PayloadTooLargeError past `limit_bytes`.
    """
    name, instance = name_function(function)
    shown = name
    if instance is not None:
        owner = _class_of(instance)
        shown = f"{owner.__module__}.{owner.__qualname__}.{name}"
    payload = encode_value((name, instance, args, kwargs), serializer, f"the arguments of {shown}")
    if len(payload) > limit_bytes:
        raise PayloadTooLargeError(
            f"the arguments of {shown} have {len(payload):,} bytes, the limit is {limit_bytes:,}:"
            " store the data elsewhere and pass its address"
        )
    return shown, payload


def encode_value(value: Any, serializer: str, what: str) -> bytes:
    """Returns a value as bytes; raises InvalidCallError, naming `what`, if that fails."""
    try:
        data = resolve_serializer(serializer).dumps(value)
    except ConfigurationError:
        raise
    except Exception as error:
        # Serializers and users' __reduce__ raise anything; all of it means the same here.
        raise InvalidCallError(f"{what} can't be serialized with {serializer}: {error}") from error
    if not isinstance(data, bytes):
        raise InvalidCallError(
            f"{what} can't be serialized: {serializer} made {type(data).__name__} of it, not bytes"
        )
    return data


def decode_call(
    payload: bytes, serializer: str, allowlist: Rules | None = None
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """Returns the callable, args and kwargs of a payload; imports the modules that it names.

    For the child and for `Job.func` alone: reading a payload runs any code that it names. With an
    allowlist it raises NotAllowedError before it would import or call anything not allowed.
    """
    if allowlist is not None:
        name, instance, args, kwargs = read_call(payload, serializer, allowlist)
        return allowlist.find(name, instance), args, kwargs
    name, instance, args, kwargs = resolve_serializer(serializer).loads(payload)
    function = getattr(instance, name) if instance is not None else import_function(name)
    return function, tuple(args), kwargs


def read_call(
    payload: bytes, serializer: str, allowlist: Rules | None = None
) -> tuple[str, Any, tuple[Any, ...], dict[str, Any]]:
    """Returns a payload's function name, instance, args and kwargs; imports only their types."""
    load = (
        resolve_serializer(serializer).loads if allowlist is None else allowlist.loader(serializer)
    )
    name, instance, args, kwargs = load(payload)
    return name, instance, tuple(args), kwargs


def import_function(name: str) -> Callable[..., Any]:
    """Returns the callable behind a dotted name such as `package.module.Class.method`.

    Raises InvalidCallError if there is none; an error inside the module's own code passes through.
    """
    home, _, own_name = name.rpartition(".")
    if module := sys.modules.get(home):  # saves the import system's checks of a loaded module
        return _find_attribute(module, [own_name], name)
    home, path = import_home(name)
    return _find_attribute(sys.modules[home], path, name)


def import_home(name: str) -> tuple[str, list[str]]:
    """Imports the module of a dotted name; returns its name, and the path within it.

    Raises as import_function does.
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            __import__(module_name)
        except ModuleNotFoundError as error:
            # Only "there is no such module" sends us a part up, where it may be a class; a missing
            # import inside the user's module is the user's error to see.
            if error.name and (module_name + ".").startswith(error.name + "."):
                continue
            raise
        return module_name, parts[cut:]
    raise InvalidCallError(f"no module for {name!r}: is its folder on the worker's --path?")


def get_part(found: Any, part: str, name: str) -> Any:
    """Returns a module's or class's attribute for a part of the name. Raises InvalidCallError."""
    try:
        return getattr(found, part)
    except AttributeError:
        where = getattr(found, "__file__", None) or getattr(found, "__name__", name)
        # The file may define it by now: preloaded modules stay as they were at their import.
        raise InvalidCallError(
            f"there is no {part!r} in {where}, for {name!r}: if it is new there, rqd reload"
        ) from None


def _check_dotted(name: str) -> str:
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InvalidCallError(f"{name!r} is no dotted name: write 'module.function'")
    _check_module(parts[0], name)
    return name


@lru_cache(maxsize=256)
def _check_function(module: str | None, qualname: str) -> str:
    if "<lambda>" in qualname:
        raise InvalidCallError("a lambda has no name to find it by: write a function in a module")
    if "<locals>" in qualname:
        raise InvalidCallError(
            f"{qualname.rpartition('.')[2]} is defined inside a function: move it to a module's"
            " level"
        )
    _check_module(module, qualname)
    return f"{module}.{qualname}"


def _check_method(name: str, instance: Any) -> str:
    owner = _class_of(instance)
    _check_function(owner.__module__, owner.__qualname__)
    if not callable(getattr(instance, name, None)):
        raise InvalidCallError(
            f"{owner.__qualname__} has no attribute {name!r} to find this method by: give it a"
            " plain name"
        )
    return name


def _check_module(module: str | None, what: str) -> None:
    if module == "__main__":
        raise InvalidCallError(f"{what} is in __main__: move it to a module that workers import")
    if not module:
        raise InvalidCallError(f"{what} belongs to no module that workers could import")


def _class_of(instance: Any) -> type:
    return instance if isinstance(instance, type) else type(instance)


def _find_attribute(found: Any, path: list[str], name: str) -> Callable[..., Any]:
    for part in path:
        found = get_part(found, part, name)
    if not callable(found):
        raise InvalidCallError(f"{name!r} is a {type(found).__name__}, not callable")
    return found  # type: ignore[no-any-return]  # callable() checked just above
