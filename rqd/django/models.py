"""The permissions of the dashboard: Django's hang on a model."""

from django.db import models


class Dashboard(models.Model):
    """Has no table. `rqd.view_dashboard` is for looking, `rqd.change_dashboard` for acting, too."""

    class Meta:
        """Makes the permissions at `manage.py migrate`."""

        managed = False
        default_permissions = ("view", "change")
        verbose_name_plural = "dashboard"
