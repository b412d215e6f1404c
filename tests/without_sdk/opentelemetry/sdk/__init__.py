"""Stands before the real one on PYTHONPATH (tests/conftest.py): to redis-py there is no SDK."""

raise ImportError("tests run without the OpenTelemetry SDK, but for those about it")
