"""The client behind users' code: redis-py's, with connection errors in a single line."""

from __future__ import annotations

from typing import Any

import redis
import redis.client

from rqd.store.answers import answers_are_read
from rqd.store.errors import UNREACHED, NoServerError, is_unreached, no_server
from rqd.store.fast_connection import FastConnections


class PlainClient(redis.Redis):
    """A client whose lost connections raise NoServerError, in a line that says what to do.

    `url` is the URL that it was made from, or a URL of the same settings.
    """

    url = ""
    # The fast connections for scripts, where the pool's settings allow them.
    held: FastConnections | None = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Sends a command as redis-py does. Raises NoServerError."""
        try:
            if self.held is not None and args[0] == "EVALSHA":
                return self.held.ask(args)
            base: Any = super()  # redis-py left it without types
            with answers_are_read():
                return base.execute_command(*args, **options)
        except (*UNREACHED, redis.ResponseError) as error:
            if not is_unreached(error) or isinstance(error, NoServerError):
                raise
            # From None: redis-py's many frames down to the socket are of no use to a user.
            raise no_server(error, self.url) from None

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Makes a pipeline as redis-py does. Its `execute` raises the errors of this client."""
        pipe = _PlainPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipe.url = self.url
        return pipe


class _PlainPipeline(redis.client.Pipeline):
    url = ""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        try:
            with answers_are_read():
                return super().execute(raise_on_error)
        except (*UNREACHED, redis.ResponseError) as error:
            if not is_unreached(error) or isinstance(error, NoServerError):
                raise
            raise no_server(error, self.url) from None
