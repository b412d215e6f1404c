"""The dashboard as a view of Django's, under Django's permissions."""

from __future__ import annotations

from functools import cache
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt

import rqd.web
from rqd.django.asgi_view import answer
from rqd.django.backend import RqdBackend
from rqd.django.framework import task_backends
from rqd.web.access import Access

_ACCESS = "rqd.django.access"


def may_look(user: Any) -> bool:
    """True for active staff with one of the dashboard's two permissions."""
    is_staff = user.is_active and user.is_staff
    return bool(is_staff and (user.has_perm("rqd.view_dashboard") or _may_act(user)))


@csrf_exempt  # the dashboard checks its forms itself
async def dashboard(request: Any, within: str = "") -> Any:
    """Answers a request for the dashboard.

    Sends visitors without a login to the admin's. Raises PermissionDenied.
    """
    request.get_host()  # raises for a host that is not in ALLOWED_HOSTS
    access = await sync_to_async(_access_of)(request)
    if access is None:
        return redirect_to_login(request.get_full_path(), reverse("admin:login"))
    prefix = request.path.removesuffix(within).rstrip("/")
    more = {_ACCESS: access, "rqd.around": ("Admin", reverse("admin:index"))}
    return await answer(_application(), request, prefix, more)


def _access_of(request: Any) -> Access | None:
    """Returns the user's rights; None for a visitor without a login. Raises PermissionDenied."""
    user = request.user
    if may_look(user):
        return Access(user.get_username(), actions=None if _may_act(user) else frozenset())
    if user.is_authenticated:
        raise PermissionDenied
    return None


def _may_act(user: Any) -> bool:
    return bool(user.has_perm("rqd.change_dashboard"))


@cache
def _application() -> Any:
    """Makes the dashboard of the first of rqd's backends in TASKS, `default` before others."""
    for alias in sorted(task_backends.settings, key=lambda alias: alias != "default"):
        if isinstance(backend := task_backends[alias], RqdBackend):
            there = backend.backend
            # No client can put this into a scope.
            return rqd.web.app(there.url, there.namespace, auth=lambda scope: scope.get(_ACCESS))
    raise ImproperlyConfigured("TASKS has no RqdBackend, so there is nothing to show")
