"""The serializers, at the path RQ's users know."""

from rqd.model.serializers import JSONSerializer, PickleSerializer, resolve_serializer

__all__ = ["JSONSerializer", "PickleSerializer", "resolve_serializer"]
