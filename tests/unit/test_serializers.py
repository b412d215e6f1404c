"""Values become bytes under a name that workers find the serializer by."""

import json
import pickle
import sys
import types
from typing import Any

import pytest

from rqd.model.errors import ConfigurationError
from rqd.model.serializers import (
    JSONSerializer,
    PickleSerializer,
    resolve_serializer,
    serializer_name,
)
from tests.unit import callables

HERE = "tests.unit.callables"


@pytest.mark.parametrize("name", ["pickle", "json", f"{HERE}.Reversing"])
def test_plain_values_come_back(name: str) -> None:
    serializer = resolve_serializer(name)
    value = {"a": [1, None, "é", 2.5]}

    assert serializer.loads(serializer.dumps(value)) == value


def test_pickle_is_what_the_standard_library_reads() -> None:
    assert pickle.loads(PickleSerializer.dumps({1, 2})) == {1, 2}


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (None, "pickle"),
        ("json", "json"),
        (PickleSerializer, "pickle"),
        (JSONSerializer, "json"),
        (pickle, "pickle"),
        (json, "json"),
        (callables.Reversing, f"{HERE}.Reversing"),
        (f"{HERE}.Reversing", f"{HERE}.Reversing"),
    ],
)
def test_a_serializer_has_a_name_that_leads_back_to_it(given: Any, name: str) -> None:
    assert serializer_name(given) == name
    resolve_serializer(name)


def test_a_module_of_the_users_own_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("aserializer")
    module.dumps, module.loads = callables.Reversing.dumps, callables.Reversing.loads
    monkeypatch.setitem(sys.modules, "aserializer", module)

    assert serializer_name(module) == "aserializer"
    assert resolve_serializer("aserializer") is module


class Local:
    dumps = loads = staticmethod(repr)


def test_what_workers_would_not_find_is_refused() -> None:
    class Nested(Local):
        pass

    main = type("InMain", (Local,), {"__module__": "__main__"})
    refused: list[Any] = [Nested, main, callables.InstanceSerializer(), callables.NoSerializer]
    for given in refused:
        with pytest.raises(ConfigurationError, match="serializer"):
            serializer_name(given)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tomato", "can't be loaded"),
        ("no.such.thing", "can't be loaded"),
        ("", "can't be loaded"),
        (".", "can't be loaded"),
        (f"{HERE}.Nothing", "can't be loaded"),
        (f"{HERE}.NoSerializer", "has no dumps and loads"),
    ],
)
def test_a_name_without_a_serializer_is_refused(name: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        resolve_serializer(name)
