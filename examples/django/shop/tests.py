"""The shop's own tests: `python manage.py test`, with the extra `embedded`."""

from django.test import TestCase
from rqd import use_redis
from rqd.testing import embedded_server, run_jobs

from shop.models import Order


class Buying(TestCase):
    """Buys without a server of Redis or a daemon running."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        use_redis(cls.enterClassContext(embedded_server()))

    def test_what_was_bought_is_shipped(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/orders", {"article": "tea"})
        run_jobs("default")
        assert Order.objects.get().is_shipped
