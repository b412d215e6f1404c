"""Django's tasks on rqd: `TASKS = {"default": {"BACKEND": "rqd.django.RqdBackend"}}`."""

from rqd.django.backend import RqdBackend

__all__ = ["RqdBackend"]
