"""Each of the sample tasks in Django's own tests, run by a daemon; django_suite.py copies this."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.test import override_settings

samples = import_module("tasks.tasks")
SERVED = {"default": {"BACKEND": "benchmarks.django_backends.Served", "QUEUES": []}}
FAILED = {
    "failing_task_value_error": "builtins.ValueError",
    "failing_task_system_exit": "builtins.SystemExit",
    "failing_task_keyboard_interrupt": "builtins.KeyboardInterrupt",
    "complex_exception": "builtins.ValueError",
    "complex_return_value": "builtins.TypeError",
    "exit_task": "builtins.SystemExit",
    "hang": "rqd.exceptions.JobTimeoutException",
}
ARGS = {"sleep_for": (0.1,), "test_context": (1,)}
VALUES = {"calculate_meaning_of_life": 42}
NAMES = [name for name in vars(samples) if hasattr(getattr(samples, name), "using")]


@pytest.mark.parametrize("name", NAMES)
def test_sample(name: str) -> None:
    with override_settings(TASKS=SERVED):
        task: Any = getattr(samples, name)
        result = task.using(job_timeout=1).enqueue(*ARGS.get(name, ()))

    assert result.status == ("FAILED" if name in FAILED else "SUCCESSFUL")
    assert [one.exception_class_path for one in result.errors] == (
        [FAILED[name]] if name in FAILED else []
    )
    if name not in FAILED:
        value = result.id if name == "get_task_id" else VALUES.get(name)
        assert result.return_value == value
