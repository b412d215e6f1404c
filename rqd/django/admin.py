"""Mounts the dashboard in Django's admin, at `/admin/rqd/dashboard/`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path, re_path

from rqd.django.dashboard import dashboard, may_look
from rqd.django.models import Dashboard


@admin.register(Dashboard)
class DashboardAdmin(admin.ModelAdmin):
    """Shows the dashboard in place of a list of objects, to staff with its permissions."""

    def get_urls(self) -> list[Any]:
        """Returns the dashboard's own paths."""
        return [
            path("", dashboard, name="rqd_dashboard_changelist"),
            re_path(r"^(?P<within>.+)$", dashboard),
        ]

    def has_module_permission(self, request: Any) -> bool:
        """True for staff who may look."""
        return may_look(request.user)

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002 - Django's
        """True for staff who may look."""
        return may_look(request.user)

    def has_add_permission(self, request: Any) -> bool:  # noqa: ARG002 - Django's
        """False: there is nothing to add."""
        return False

    def has_change_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002 - Django's
        """False: the dashboard's own actions change jobs."""
        return False

    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:  # noqa: ARG002 - Django's
        """False: there is nothing to delete."""
        return False
