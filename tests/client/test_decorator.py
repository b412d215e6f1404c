"""`@job`: a function that can be called, or put on its queue."""

from functools import partial
from typing import Any

import pytest

from rqd import Queue
from rqd.client.connection import Backend
from rqd.decorators import job
from rqd.exceptions import InvalidCallError
from tests.client import work
from tests.client.performing import perform


def test_a_decorated_function_is_still_called_as_itself() -> None:
    assert work.decorated(2, word="b") == "bb"


def test_delay_puts_the_call_on_the_queue_with_the_decorators_options(backend: Backend) -> None:
    found = work.decorated.delay(2, word="b")

    assert (found.origin, found.timeout, found.result_ttl) == ("emails", 300, 60)
    assert (found.args, found.kwargs, found.meta) == ((2,), {"word": "b"}, {"by": "decorator"})
    perform(backend, "emails")
    assert found.return_value() == "bb"


def test_enqueue_takes_options_over_the_decorators(backend: Backend) -> None:
    found = work.decorated.enqueue(2, word="b", job_id="mine", result_ttl=5)

    assert (found.id, found.result_ttl, found.timeout) == ("mine", 5, 300)
    assert found.kwargs == {"word": "b"}


def test_a_coroutine_function_is_awaited_in_the_worker(backend: Backend) -> None:
    found = work.decorated_later.delay(5)

    perform(backend, "emails")

    assert found.return_value() == 5


def test_a_queue_will_do_in_place_of_its_name(backend: Backend) -> None:
    decorated = job(Queue("other"))(work.multiply)

    assert decorated.delay(1).origin == "other"


def test_an_option_that_does_not_exist_is_refused_where_it_stands() -> None:
    with pytest.raises(InvalidCallError, match="no option colour="):
        job("emails", colour="red")


def test_delay_takes_rqs_three_options_where_the_function_has_no_such_argument(
    backend: Backend,
) -> None:
    asked: Any = work.decorated.delay
    own: Any = work.decorated_with_an_id.delay

    first = asked(1, job_id="first")
    after = asked(2, word="b", depends_on=first, at_front=True)
    given = own(job_id="7", at_front=True)

    assert (first.id, first.kwargs, first.timeout) == ("first", {}, 300)
    assert (after.dependency_ids, after.kwargs, after.meta) == (
        ["first"],
        {"word": "b"},
        {"by": "decorator"},
    )
    assert given.id != "7"
    assert given.kwargs == {"job_id": "7"}
    assert Queue("emails").job_ids == [given.id, "first"]


def test_what_does_not_tell_its_arguments_is_decorated_too() -> None:
    largest: Any = job("emails")(partial(max, 1))

    assert largest(2) == 2
