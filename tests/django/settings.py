"""Settings of Django for these tests: no time zone and no log of its own, as pytest shares them."""

from __future__ import annotations

import os
from typing import Any

import django

TASKS_MODULE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
SETTINGS: dict[str, Any] = {
    "INSTALLED_APPS": [
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rqd.django",
        "tests.django",
        *([] if django.VERSION >= (6, 0) else ["django_tasks"]),
    ],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    "TASKS": {
        "default": {"BACKEND": "rqd.django.RqdBackend", "QUEUES": ["default", "mails"]},
        # The same queues under another name and with other options.
        "at_once": {
            "BACKEND": "rqd.django.RqdBackend",
            "QUEUES": [],
            "OPTIONS": {"commit": "now", "retry": 1, "job_timeout": "2m"},
        },
        # A backend of Django's own beside them.
        "at_call": {"BACKEND": f"{TASKS_MODULE}.backends.immediate.ImmediateBackend"},
    },
    "RQ_QUEUES": {"default": {"URL": os.environ.get("RQD_URL", "redis://localhost:1")}},
    "LOGGING_CONFIG": None,
    "TIME_ZONE": None,
    "USE_TZ": True,
}


def set_up() -> None:
    """Sets Django up in this process, once."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(**SETTINGS)
        django.setup()
