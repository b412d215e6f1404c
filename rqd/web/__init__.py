"""The dashboard in the browser: an ASGI application, which `rqd web` serves."""

from rqd.web.site import app as app
