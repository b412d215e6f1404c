"""An order, and the result of its task."""

from django.db import models


class Order(models.Model):
    """An order of one article."""

    article = models.CharField(max_length=100)
    is_shipped = models.BooleanField(default=False)
    task_id = models.CharField(max_length=64, default="")
