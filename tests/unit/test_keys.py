"""Every key of a namespace lies in one slot of a Cluster, and no two are the same."""

import pytest

from rqd.model.errors import InvalidNameError
from rqd.store.keys import Keys


def test_every_key_carries_the_one_hash_tag_of_its_namespace() -> None:
    keys = Keys("billing")
    spelt = [
        *(keys.queues, keys.masters, keys.leases, keys.scheduled, keys.audit),
        *(keys.ready("q"), keys.index("q", "failed"), keys.stats("q"), keys.wake_queue("q")),
        *(keys.job("j"), keys.results("j"), keys.payload("j"), keys.result("j")),
        *(keys.request("j"), keys.staged("s")),
        *(keys.master("m"), keys.worker("m", 1), keys.wake_master("m")),
    ]

    assert all(key.startswith("{billing}:") and key.count("{") == 1 for key in spelt)
    assert len(set(spelt)) == len(spelt)


@pytest.mark.parametrize("namespace", ["", "a b", "{a}", "a}", "a,b"])
def test_a_namespace_that_would_break_the_tag_is_refused(namespace: str) -> None:
    with pytest.raises(InvalidNameError, match="namespace"):
        Keys(namespace)
