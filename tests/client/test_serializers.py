"""Who asks for JSON reads JSON, whatever stands in Redis."""

from pathlib import Path
from typing import Any

import pytest

from rqd import Job, Queue
from rqd.client.connection import Backend
from rqd.exceptions import DeserializationError
from rqd.serializers import JSONSerializer
from tests.cli.running import rqd
from tests.client import work
from tests.client.performing import claim, settle
from tests.pickles import pickle_that_touches


def test_who_asks_for_a_serializer_is_made_to_use_no_other(
    backend: Backend, tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    queue = Queue(serializer=JSONSerializer)
    job = queue.enqueue(work.echo, 1, meta={"page": 1})
    (held,) = claim(backend)
    settle(backend, held, "finish", pickle_that_touches(planted))
    bad: Any = {"serializer": "pickle", "payload": pickle_that_touches(planted)}
    backend.store.redis.hset(
        backend.store.keys.job(job.id), mapping={**bad, "meta": pickle_that_touches(planted)}
    )

    for found in (
        Job.fetch(job.id, serializer="json"),
        *Job.fetch_many([job.id], serializer=JSONSerializer),
        queue.fetch_job(job.id),
    ):
        assert found is not None
        for part in ("args", "meta", "func", "result"):
            with pytest.raises(DeserializationError, match="with pickle, not with json"):
                getattr(found, part)
    job.refresh()
    with pytest.raises(DeserializationError):
        job.return_value()
    assert not planted.exists()


def test_the_command_line_enqueues_json(backend: Backend) -> None:
    ran = rqd("enqueue", "--serializer", "json", "tests.client.work.echo", ":[1]", url=backend.url)

    job = Job.fetch(ran.out.strip(), serializer="json")
    assert (job.args, job.kwargs) == (([1],), {})
    assert job.func is work.echo


def test_a_serializer_of_ours_has_one_name_however_it_is_written(backend: Backend) -> None:
    path = "rqd.serializers.JSONSerializer"
    job = Queue(serializer=path).enqueue(work.echo, 1)

    for asked in (path, "json", JSONSerializer):
        assert Job.fetch(job.id, serializer=asked).args == (1,)
    by_class = Queue(serializer=JSONSerializer).enqueue(work.echo, 2)
    assert Job.fetch(by_class.id, serializer=path).args == (2,)
    assert Queue(serializer="rqd.serializers.DefaultSerializer").serializer == "pickle"
