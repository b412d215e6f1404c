"""Tasks in a module that nothing imports before a result is asked for."""

import django

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


@task
def add(a: int, b: int) -> int:
    """Returns the sum."""
    return a + b
