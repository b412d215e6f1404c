"""Which queues a daemon serves, in which order, by what its command line says."""

import pytest

from rqd.cli.precedence import read_order
from rqd.daemon.config import Config
from rqd.model.errors import ConfigurationError


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
    with pytest.raises(ConfigurationError, match="write weights from 1 to 1000"):
        Config(url="redis://x", **read_order((f"high:{weight}",), None))
