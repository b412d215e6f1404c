"""A function call as bytes, and back: what a job carries.

The payload is the serialized tuple (function name, instance, args, kwargs), RQ's own idea:
functions travel by name, bound methods as their instance and the method's name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rqd.model.errors import ConfigurationError, InvalidCallError, PayloadTooLargeError
from rqd.model.serializers import resolve_serializer

DEFAULT_PAYLOAD_LIMIT_BYTES = 64 * 1024 * 1024


def name_function(function: Any) -> tuple[str, Any]:
    """The name workers find a callable by, and the instance it is called on (None for functions).

    Raises InvalidCallError for what no other process can find: lambdas, nested functions,
    functions of `__main__`.
    """
    if isinstance(function, str):
        return _check_dotted(function), None
    if not callable(function):
        raise InvalidCallError(f"{function!r} is not callable: pass a function or its dotted name")
    instance = getattr(function, "__self__", None)
    if instance is not None and not isinstance(instance, type(sys)):
        return function.__name__, instance  # a bound method; a builtin's __self__ is its module
    if not hasattr(function, "__qualname__"):
        return "__call__", function  # an instance with __call__, functools.partial among them
    return _check_function(function.__module__, function.__qualname__), None


def encode_call(
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    serializer: str = "pickle",
    limit_bytes: int = DEFAULT_PAYLOAD_LIMIT_BYTES,
) -> tuple[str, bytes]:
    """The function's name and the call's payload.

    Raises InvalidCallError if it can't be serialized, PayloadTooLargeError past `limit_bytes`.
    """
    name, instance = name_function(function)
    try:
        payload = resolve_serializer(serializer).dumps((name, instance, args, kwargs))
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 - serializers and users' __reduce__ raise anything
        raise InvalidCallError(
            f"the arguments of {name} can't be serialized with {serializer}: {error}"
        ) from error
    if len(payload) > limit_bytes:
        raise PayloadTooLargeError(
            f"the arguments of {name} take {len(payload):,} bytes, the limit is {limit_bytes:,}:"
            " store the data elsewhere and pass its address"
        )
    shown = name if instance is None else f"{type(instance).__qualname__}.{name}"
    return shown, payload


def decode_call(
    payload: bytes, serializer: str
) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The callable, args and kwargs of a payload; imports what it names.

    For the child and for `Job.func` alone: it runs whatever the payload says.
    """
    name, instance, args, kwargs = resolve_serializer(serializer).loads(payload)
    if instance is not None:
        return getattr(instance, name), tuple(args), kwargs
    return import_function(name), tuple(args), kwargs


def import_function(name: str) -> Callable[..., Any]:
    """The callable behind a dotted name such as `package.module.Class.method`.

    Raises InvalidCallError if there is none; an error inside the module's own code passes through.
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:cut])
        try:
            __import__(module_name)
        except ModuleNotFoundError as error:
            # Only "there is no such module" sends us one part up, where it may be a class;
            # a missing import inside the user's module is the user's error to see.
            if error.name and (module_name + ".").startswith(error.name + "."):
                continue
            raise
        return _find_attribute(sys.modules[module_name], parts[cut:], name)
    raise InvalidCallError(f"no module for {name!r}: is its folder on the worker's --path?")


def describe_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The call as one would type it, cut to a readable length: `tasks.multiply(20, 40)`."""
    shown = [_shorten(value) for value in args]
    shown += [f"{key}={_shorten(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"[:1000]


def _check_dotted(name: str) -> str:
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InvalidCallError(f"{name!r} is no dotted name: write 'module.function'")
    if parts[0] == "__main__":
        raise InvalidCallError(f"{name} is in __main__: move it to a module that workers can import")
    return name


def _check_function(module: str | None, qualname: str) -> str:
    if "<lambda>" in qualname:
        raise InvalidCallError("a lambda has no name to find it by: write a function in a module")
    if "<locals>" in qualname:
        raise InvalidCallError(
            f"{qualname.rpartition('.')[2]} is defined inside a function: move it to a module's level"
        )
    if module == "__main__":
        raise InvalidCallError(
            f"{qualname} is in __main__: move it to a module that workers can import"
        )
    return f"{module}.{qualname}"


def _find_attribute(found: Any, path: list[str], name: str) -> Callable[..., Any]:
    for part in path:
        try:
            found = getattr(found, part)
        except AttributeError:
            where = getattr(found, "__file__", None) or getattr(found, "__name__", name)
            raise InvalidCallError(f"there is no {part!r} in {where}, for {name!r}") from None
    if not callable(found):
        raise InvalidCallError(f"{name!r} is a {type(found).__name__}, not callable")
    return found  # type: ignore[no-any-return]  # callable() checked just above


def _shorten(value: Any, limit: int = 80) -> str:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ raises what it likes; a label must not
        shown = f"<{type(value).__name__}>"
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."
