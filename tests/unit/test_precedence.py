"""Which queues a daemon serves, in which order, by what its command line says."""

from dataclasses import replace

import pytest

from rqd.cli.start import read_order
from rqd.daemon.claims import Precedence
from rqd.daemon.config import Config
from rqd.model.errors import ConfigurationError
from tests.place import claim_of


@pytest.mark.parametrize(
    ("names", "chosen", "queues", "precedence", "weights"),
    [
        ("high low", None, "high low", "strict", ()),
        ("high:5 low:1", None, "high low", "weighted", (5, 1)),
        ("high:5 low", None, "high low", "weighted", (5, 1)),
        ("high:5 low", "weighted", "high low", "weighted", (5, 1)),
        ("shop:high:5", None, "shop:high", "weighted", (5,)),
        ("high:5 low", "strict", "high:5 low", "strict", ()),
        ("high low", "round-robin", "high low", "round-robin", ()),
        ("high:x", None, "high:x", "strict", ()),
    ],
)
def test_weights_are_read_unless_another_precedence_is_chosen(
    names: str, chosen: str | None, queues: str, precedence: str, weights: tuple[int, ...]
) -> None:
    order = read_order(tuple(names.split()), chosen)

    assert order == {
        "queues": tuple(queues.split()),
        "precedence": precedence,
        "weights": weights,
    }
    Config(url="redis://x", **order)


def test_weighted_needs_weights() -> None:
    with pytest.raises(ConfigurationError, match="needs weights: --queues high:5,low:1"):
        read_order(("high", "low"), "weighted")


@pytest.mark.parametrize("weight", ["0", "1001"])
def test_a_weight_has_limits(weight: str) -> None:
    with pytest.raises(ConfigurationError, match="wrong weight: write 1 to 1000"):
        Config(url="redis://x", **read_order((f"high:{weight}",), None))


@pytest.mark.parametrize(("back", "last"), [("abc", "c"), ("bc", "a"), ("c", "b"), ("cb", "a")])
def test_a_rotation_goes_on_where_jobs_were_claimed_that_go_back(back: str, last: str) -> None:
    precedence = Precedence(
        Config(url="redis://x", queues=("a", "b", "c"), precedence="round-robin")
    )
    claims = {
        queue: replace(claim_of(queue), queue=queue, token=f"{fence}:n")
        for fence, queue in enumerate("abc", 1)
    }
    precedence.note([*claims.values()])
    assert precedence.order() == "round_robin c"

    # In whatever order their workers let them go.
    precedence.give_back([claims[queue] for queue in back])

    assert precedence.order() == f"round_robin {last}"
