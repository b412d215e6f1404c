"""Clients with keys sign what they write, and unpickle nothing that is not signed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rqd import Job, Queue, use_redis
from rqd.client.connection import Backend, backend_for
from rqd.exceptions import ConfigurationError, SignatureError
from rqd.model.signing import RESULT, Keyring, result_facts
from rqd.store.connection import client_connection
from rqd.store.store import Store
from tests.client import work
from tests.client.performing import claim, settle
from tests.pickles import pickle_that_touches

KEY, OTHER = "a-key-of-enough-characters", "another-key-of-enough-chars"


@pytest.fixture
def signing(backend: Backend) -> Backend:
    """A client with a key; the process's default has none."""
    return Backend(backend.store, backend.url, Keyring([KEY]))


def fetched(job: Job[Any], backend: Backend) -> Job[Any]:
    return Job.fetch(job.id, backend)


def reads() -> list[Callable[[Job[Any]], Any]]:
    return [
        lambda job: job.args,
        lambda job: job.kwargs,
        lambda job: job.func,
        lambda job: job.meta,
        lambda job: job.get_meta(),
    ]


def test_what_a_key_signed_is_read_with_it(signing: Backend) -> None:
    job = Queue(connection=signing).enqueue(work.multiply, 6, y=7, meta={"page": 1})

    for found in (job, fetched(job, signing)):
        assert (found.args, found.kwargs) == ((6,), {"y": 7})
        assert found.func is work.multiply
        assert found.meta == {"page": 1}


def test_many_and_large_and_scheduled_and_piped_jobs_are_signed_too(signing: Backend) -> None:
    queue = Queue(connection=signing)
    with client_connection(signing.url).pipeline() as pipe:
        piped = queue.enqueue(work.multiply, 1, pipeline=pipe)
        pipe.execute()
    large = "x" * 200_000
    jobs = queue.enqueue_many([Queue.prepare_data(work.echo, [word]) for word in ("a", large)])

    assert fetched(piped, signing).args == (1,)
    assert [fetched(job, signing).args for job in jobs] == [("a",), (large,)]


def test_saved_meta_is_signed_anew(signing: Backend) -> None:
    job = Queue(connection=signing).enqueue(work.multiply, 1)
    job.meta["seen"] = True
    job.save_meta()

    assert fetched(job, signing).meta == {"seen": True}


def test_unsigned_jobs_are_not_unpickled_where_there_is_a_key(
    backend: Backend, signing: Backend
) -> None:
    job = Queue(connection=backend).enqueue(work.multiply, 1, meta={"page": 1})

    for read in reads():
        with pytest.raises(SignatureError, match="is not signed, and there are signing keys here"):
            read(fetched(job, signing))
    assert fetched(job, backend).args == (1,)


def test_another_key_is_told_apart_from_a_wrong_signature(
    backend: Backend, signing: Backend
) -> None:
    other = Backend(backend.store, backend.url, Keyring([OTHER]))
    job = Queue(connection=other).enqueue(work.multiply, 1)

    with pytest.raises(SignatureError, match="with a key that is not ours"):
        _ = fetched(job, signing).args
    both = Backend(backend.store, backend.url, Keyring([KEY, OTHER]))
    assert fetched(job, both).args == (1,)


@pytest.mark.parametrize("field", ["payload", "meta"])
def test_a_planted_pickle_is_never_loaded(signing: Backend, tmp_path: Path, field: str) -> None:
    job = Queue(connection=signing).enqueue(work.multiply, 1, meta={"page": 1})
    planted = tmp_path / "planted"
    key = signing.store.keys.job(job.id)
    signing.store.redis.hset(key, field, pickle_that_touches(planted))

    read = {"payload": reads()[0], "meta": reads()[3]}[field]
    with pytest.raises(SignatureError, match="wrong signature: it was changed in Redis"):
        read(fetched(job, signing))
    assert not planted.exists()


def test_a_call_and_a_meta_cant_be_moved_to_another_job_nor_another_namespace(
    signing: Backend,
) -> None:
    queue = Queue(connection=signing)
    cheap, dear = (queue.enqueue(work.echo, word, meta={"by": word}) for word in ("cheap", "dear"))
    redis, keys = signing.store.redis, signing.store.keys
    redis.copy(keys.job(dear.id), keys.job(cheap.id), replace=True)
    elsewhere = Backend(Store(redis, "elsewhere"), signing.url, signing.keyring)
    redis.copy(keys.job(dear.id), elsewhere.store.keys.job(dear.id))

    for job in (fetched(cheap, signing), fetched(dear, elsewhere)):
        for read in reads():
            with pytest.raises(SignatureError):
                read(job)


def signed_result(backend: Backend, job_id: str, token: str, data: bytes) -> dict[str, str]:
    """What a child with the key says of a result."""
    assert backend.keyring is not None
    facts = result_facts(b"rqd", job_id.encode(), token.encode(), b"pickle")
    return {"token": token, "signature": backend.keyring.sign(RESULT, facts, data)}


def test_a_result_is_read_only_with_its_own_signature(signing: Backend, tmp_path: Path) -> None:
    queue, planted = Queue(connection=signing), tmp_path / "planted"
    good, bare, forged, moved = (queue.enqueue(work.multiply, n) for n in range(4))
    bad = pickle_that_touches(planted)
    by_id = {held.id: held for held in claim(signing, count=4)}
    said = signed_result(signing, good.id, by_id[good.id].token, b"K*.")
    settle(signing, by_id[good.id], "finish", b"K*.", **said)
    settle(signing, by_id[bare.id], "finish", bad)
    of_forged = signed_result(signing, forged.id, by_id[forged.id].token, b"K*.")
    settle(signing, by_id[forged.id], "finish", bad, **of_forged)
    settle(signing, by_id[moved.id], "finish", b"K*.", **said)

    assert good.return_value() == 42
    with pytest.raises(SignatureError, match="is not signed"):
        bare.return_value()
    for job in (forged, moved):
        with pytest.raises(SignatureError, match="wrong signature"):
            _ = job.result
    assert not planted.exists()


def test_use_redis_takes_keys_and_the_environment_gives_them(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_redis(backend.url, signing_keys=[KEY])
    job = Queue().enqueue(work.multiply, 1)
    monkeypatch.setenv("RQD_SIGNING_KEY", KEY)
    use_redis(backend.url)

    assert Job.fetch(job.id).args == (1,)
    assert KEY not in repr(backend_for())
    use_redis(backend.url, signing_keys=[])
    assert backend_for().keyring is None
    with pytest.raises(ConfigurationError, match="has 5 characters"):
        use_redis(backend.url, signing_keys=["short"])
