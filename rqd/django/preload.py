"""Loads the project into the zygote: Django's set-up, and the `tasks` module of each app.

Its import is the effect. DJANGO_SETTINGS_MODULE names the settings.
"""

import django
from django.db import connections
from django.utils.module_loading import autodiscover_modules

django.setup()
autodiscover_modules("tasks")
# A module may have asked the database: children must not share that connection.
connections.close_all()
