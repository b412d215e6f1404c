"""The application for INSTALLED_APPS: `manage.py rqd`, checks, and the dashboard in the admin."""

from django.apps import AppConfig
from django.core import checks


class RqdConfig(AppConfig):
    """Registers the checks that look at Redis, for `manage.py check --deploy`."""

    name = "rqd.django"
    label = "rqd"
    verbose_name = "Background jobs"

    def ready(self) -> None:
        """Registers the checks."""
        from rqd.django.checks import check_daemons, check_keys  # noqa: PLC0415 - apps are ready

        checks.register(check_keys, checks.Tags.security, deploy=True)
        checks.register(check_daemons, "rqd", deploy=True)
