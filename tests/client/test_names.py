"""The names users import, at the paths RQ's users know."""

import importlib

import pytest

import rqd


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("rqd", "Queue Worker Job Retry use_redis get_current_job cancel_job requeue_job"),
        ("rqd.job", "Job JobStatus get_current_job cancel_job requeue_job"),
        ("rqd.queue", "Queue"),
        ("rqd.worker", "Worker"),
        ("rqd.decorators", "job"),
        ("rqd.results", "Result"),
        ("rqd.timeouts", "JobTimeoutException"),
        ("rqd.serializers", "JSONSerializer PickleSerializer"),
        ("rqd.exceptions", "NoSuchJobError InvalidJobOperation DuplicateJobError RqdError"),
    ],
)
def test_a_name_is_where_it_is_looked_for(module: str, names: str) -> None:
    for name in names.split():
        assert hasattr(importlib.import_module(module), name), name


def test_all_lists_every_name_there_is() -> None:
    assert set(rqd.__all__) == {"__version__", *rqd._HOME}
    assert dir(rqd) == rqd.__all__
    for name in rqd.__all__:
        getattr(rqd, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'rqd' has no attribute 'Nothing'"):
        _ = rqd.Nothing
