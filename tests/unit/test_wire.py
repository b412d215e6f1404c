"""What goes to the server at once."""

from rqd.model.records import NewJob, Template
from rqd.model.terms import dump_terms
from rqd.store.wire import portions


def test_jobs_with_many_parents_go_in_smaller_portions() -> None:
    terms = dump_terms({"depends_on": {"ids": [f"parent-{n:030d}" for n in range(1000)]}})
    template = Template("low", terms=terms)
    jobs = [NewJob(f"j{n}", template, "tasks.f", b"") for n in range(100)]
    sizes = [len(portion) for portion in portions(jobs)]
    assert sum(sizes) == 100
    assert max(sizes) * 1000 <= 30_000
