"""What the web server serves: the shop, and the dashboard for its operators at /rqd.

It is no part of create_app, as it starts a thread, which a daemon that preloads worker.py must not
have when it forks.
"""

import os

import redis  # noqa: F401 - rqd would load it in the first request, which would wait for it
from a2wsgi import ASGIMiddleware
from rqd.web import app as dashboard
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from app import create_app
from flask import session

app = create_app(SECRET_KEY=os.environ.get("SHOP_SECRET") or os.urandom(32))


def operators(scope):
    """Lets those in who have logged in to the shop as operators."""
    with app.request_context(scope["wsgi_environ"]):
        return "all" if session.get("is_operator") else None


shop_app = app.wsgi_app
app.wsgi_app = DispatcherMiddleware(
    shop_app, {"/rqd": ASGIMiddleware(dashboard(app.config["RQD_URL"], auth=operators))}
)
