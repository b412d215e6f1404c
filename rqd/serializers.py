"""The serializers, at the path RQ's users know."""

from rqd.model.serializers import JSONSerializer, PickleSerializer, Serializer, resolve_serializer

DefaultSerializer = PickleSerializer

__all__ = [
    "DefaultSerializer",
    "JSONSerializer",
    "PickleSerializer",
    "Serializer",
    "resolve_serializer",
]
