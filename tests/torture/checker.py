"""The verdict on a campaign: reads its histories and Redis' final state, and nothing else.

python -m tests.torture.checker FOLDER exits 0 if the campaign is valid, 1 if it is not, and prints
why. In the manner of Jepsen's total-queue checker: whatever was acknowledged must come out, nothing
else may, and what came out twice must have had a reason.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tests.torture.calls import LATER_S
from tests.torture.endpoint import GOOD
from tests.torture.explain import (
    ASKED,
    REPEAT,
    RETRY,
    Faults,
    Run,
    retries_of,
    why_again,
    why_failed,
    why_late,
)
from tests.torture.history import Event, read_histories
from tests.torture.story import Story, tell

_TERMINAL = ("finished", "failed", "canceled", "stopped")
# A master told to stop may leave with 75 if Redis is not there to take its last outcomes, and one
# that is started while Redis is away, or its name is taken, with 69.
_GOOD_EXITS = (0, 69, 75)
_EX_CONFIG = 78
_SHOWN = 5


@dataclass
class Verdict:
    """What is wrong, by rule; and how often a fault doubled or failed a job, for the table."""

    wrong: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    doubled: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    starts: int = 0
    faults: int = 0
    unknown: int = 0
    put_back: int = 0

    @property
    def is_valid(self) -> bool:
        return not self.wrong

    def says(self) -> Iterator[str]:
        """A line for each rule, and a few cases of each that was broken."""
        for rule in RULES:
            cases = self.wrong.get(rule, [])
            yield f"{rule}: {len(cases)}"
            yield from (f"    {case}" for case in cases[:_SHOWN])


LOST = "lost"
UNEXPECTED = "unexpected"
DOUBLES = "unexplained doubles"
STALE = "stale settles accepted"
FENCES = "fences that do not rise"
RECORDS = "jobs with several terminal records"
CALLBACKS = "ends without their callback, or with several"
HOOKS = "webhooks that did not come, or of no such end"
PROMISES = "asked to run again, and did not, or too soon"
LAST_WORDS = "told something last that is not there"
ORDER = "started before those they waited for had ended"
STARTS = "more attempts than retries allow"
ENDS = "ended otherwise than it should"
RESULTS = "wrong results"
ORPHANS = "orphans"
STRAYS = "stray keys and leases"
STAYS = "terminal records without an end"
BREACHES = "breaches seen while it ran"
DEATHS = "masters that died of themselves"
UNFINISHED = "campaign did not come to its end"
RULES = (
    *(
        LOST,
        UNEXPECTED,
        DOUBLES,
        STALE,
        FENCES,
        RECORDS,
        CALLBACKS,
        HOOKS,
        PROMISES,
        LAST_WORDS,
        ORDER,
        STARTS,
        ENDS,
    ),
    *(RESULTS, ORPHANS, STRAYS, STAYS, BREACHES, DEATHS, UNFINISHED),
)


def check(events: Iterable[Event]) -> Verdict:
    """The verdict on a campaign with these events."""
    story = tell(events)
    faults = Faults(story.others["fault"], story.others["died"])
    verdict = Verdict(jobs=len(story.acked), faults=len(faults.all))
    verdict.starts = sum(map(len, story.runs.values()))
    verdict.unknown = len(story.others["unknown"])
    _check_promises(story, faults, verdict)
    for job_id, runs in story.runs.items():
        if job_id in story.offers:
            _check_runs(job_id, runs, story, faults, verdict)
        else:
            verdict.wrong[UNEXPECTED].append(f"{job_id} ran and was never enqueued")
    _check_fences_differ(story, verdict)
    _check_order(story, verdict)
    _check_hooks(story, verdict)
    _check_surroundings(story, faults, verdict)
    _check_drain(story, verdict)
    return verdict


def _check_promises(story: Story, faults: Faults, verdict: Verdict) -> None:
    for job_id in story.acked:
        offer, job = story.offers[job_id], story.jobs.get(job_id)
        if job is None and "gone" in offer["expect"]:
            continue
        if job is None or job["status"] not in _TERMINAL:
            verdict.wrong[LOST].append(
                f"{job_id} ({offer['kind']}): {job['status'] if job else 'gone'}"
            )
            verdict.lost[offer.get("fault", "")] += 1
    for job_id, job in story.jobs.items():
        if job_id not in story.offers:
            verdict.wrong[UNEXPECTED].append(f"{job_id} is in Redis and was never enqueued")
        elif job["status"] in _TERMINAL:
            _check_end(job_id, job, story, faults, verdict)
        elif job_id not in story.acked:
            # Nobody knows whether it exists; as it does, it must come to its end.
            verdict.wrong[LOST].append(f"{job_id} (unknown): {job['status']}")


def _check_end(job_id: str, job: Event, story: Story, faults: Faults, verdict: Verdict) -> None:
    offer, runs = story.offers[job_id], story.runs.get(job_id, [])
    was_replaced = job["status"] == "canceled"
    if job["records"] not in _records_wanted(job, offer):
        verdict.wrong[RECORDS].append(f"{job_id} ({offer['kind']}) has {job['records']}")
    if not job["expires"]:
        verdict.wrong[STAYS].append(job_id)
    if job["misplaced"]:
        verdict.wrong[STRAYS].append(f"{job_id}: {job['misplaced']}")
    if job["status"] not in offer["expect"]:
        why = why_failed(job, runs, offer["t"], faults)
        if why is None:
            told = f"{job_id} ({offer['kind']}) {job['status']}: {job['cause'][:160]}"
            verdict.wrong[ENDS].append(told)
        else:
            verdict.failed[why] += 1
    _check_kind(job, runs, story, faults, verdict)
    if job["status"] == "finished" and offer["kind"] != "hook":
        _check_result(job_id, job, runs, verdict)
    newest = max((run.fence for run in runs), default=0)
    # What became of it when its master was lost nobody has settled.
    is_unsettled = was_replaced or job["cause"].startswith(("abandoned", "stopped"))
    if job["settled_fence"] < newest and not is_unsettled:
        told = f"{job_id} was settled under {job['settled_fence']} though {newest} had started"
        verdict.wrong[STALE].append(told)


def _check_kind(
    job: Event, runs: list[Run], story: Story, faults: Faults, verdict: Verdict
) -> None:
    """What is to be there at the end of one kind of jobs alone."""
    job_id = job["id"]
    offer = story.offers[job_id]
    match offer["kind"]:
        case "called" | "hooked" if len(job["callbacks"]) != 1:
            verdict.wrong[CALLBACKS].append(f"{job_id} {job['status']} has {len(job['callbacks'])}")
        case "telling" if job["status"] == "finished":
            told_by, _, told = job.get("progress", "").partition(" ")
            if not told.endswith(" 1 told") or told_by != str(job["settled_fence"]):
                verdict.wrong[LAST_WORDS].append(f"{job_id}: {told_by} {told}")
        case "insistent":
            _check_insistence(job, runs, offer, faults, verdict)
        case "hook":
            _check_hook(job, story, verdict)


def _check_insistence(
    job: Event, runs: list[Run], offer: Event, faults: Faults, verdict: Verdict
) -> None:
    """It asks until it may no more."""
    highest = max((run.attempt for run in runs), default=0)
    if highest == 1 + offer["again"]:
        return
    why = why_failed(job, runs, offer["t"], faults)
    if why is None:
        told = f"{job['id']} failed at attempt {highest}, not at {1 + offer['again']}"
        verdict.wrong[PROMISES].append(told)
    else:
        verdict.failed[why] += 1


def _records_wanted(job: Event, offer: Event) -> range:
    """How many terminal records it may have: one of each success that is repeated, too."""
    if job["status"] == "canceled":
        return range(1)
    again = offer["again"] if offer["kind"] == "repeated" else 0
    return range(1 + (again if job["status"] == "finished" else 0), 2 + again)


def _check_hook(job: Event, story: Story, verdict: Verdict) -> None:
    """The job that sends a webhook: once it has finished, the endpoint has taken one."""
    job_id = job["id"]
    of = story.offers[job_id]["of"]
    taken = [one for one in story.hooks[of] if one["answer"] == GOOD]
    if job["status"] == "finished" and (not taken or job["result"] != str(GOOD)):
        told = f"{job_id}, of {of}, finished with {job['result']!r}; {len(taken)} were taken"
        verdict.wrong[HOOKS].append(told)


def _check_hooks(story: Story, verdict: Verdict) -> None:
    """Nothing but the end of a job that asked for it was told to the endpoint."""
    for job_id, hooks in story.hooks.items():
        kind = story.offers.get(job_id, {}).get("kind")
        stands = story.jobs.get(job_id, {}).get("status")
        for hook in hooks:
            if kind != "hooked" or hook["status"] != stands:
                told = f"{job_id} ({kind}) {stands}: told to be {hook['status']}"
                verdict.wrong[HOOKS].append(told)


def _check_result(job_id: str, job: Event, runs: list[Run], verdict: Verdict) -> None:
    if not runs:
        verdict.wrong[RESULTS].append(f"{job_id} finished and never started")
        return
    told, _, fence = (job["result"] or "").rpartition("/")
    if told == job_id and int(fence) != runs[-1].fence:
        verdict.wrong[STALE].append(f"{job_id} has the result of {fence}, not {runs[-1].fence}")
    elif told != job_id and not (job["result"] or "").startswith("<"):
        verdict.wrong[RESULTS].append(f"{job_id}: {job['result']!r}")


def _check_runs(
    job_id: str, runs: list[Run], story: Story, faults: Faults, verdict: Verdict
) -> None:
    offer, retried = story.offers[job_id], 0
    retries, highest = retries_of(offer), max(run.attempt for run in runs)
    if highest > 1 + retries + offer["again"]:
        verdict.wrong[STARTS].append(f"{job_id}: attempt {highest}, {retries} retries")
    for run, after in pairwise(runs):
        why = why_again(run, after, offer, retried, faults)
        if why is None and _was_put_back_at_the_end(run, after, story):
            verdict.put_back += 1
        elif why is None:
            first = f"{run.master} pid {run.pid} at {run.t:.3f} ({run.how})"
            second = f"{after.master} pid {after.pid} at {after.t:.3f}"
            verdict.wrong[DOUBLES].append(f"{job_id}: {first}, {second}")
        elif why == RETRY:
            retried += 1
        elif why == ASKED:
            _check_wait(run, after, story, faults, verdict)
        elif why == REPEAT:
            pass  # its records say how often
        else:
            retried += after.attempt > run.attempt
            verdict.doubled[why] += 1
        if after.t < run.t and why_late(run, after, faults) is None:
            told = f"{job_id}: {run.fence} started after {after.fence}"
            verdict.wrong[FENCES].append(told)


def _check_wait(run: Run, after: Run, story: Story, faults: Faults, verdict: Verdict) -> None:
    """Between a run that asked for another one and that one lies what it asked for."""
    # To come to an end, the campaign puts the clock forward once all faults are over.
    over = min((event["t"] for event in story.others["by clock"]), default=float("inf"))
    is_killed = faults.on_child(run.pid, run.t, after.t)  # perhaps before it had asked
    if run.ended is None or after.t > over or is_killed or faults.of_clock(run.t, after.t):
        return
    if after.t < run.ended + LATER_S:
        told = f"{run.job} ran again after {after.t - run.ended:.3f} s, not {LATER_S:g} s"
        verdict.wrong[PROMISES].append(told)


def _check_fences_differ(story: Story, verdict: Verdict) -> None:
    seen: dict[int, str] = {}
    for job_id, runs in story.runs.items():
        for run in runs:
            if run.fence and seen.setdefault(run.fence, job_id) and seen[run.fence] != job_id:
                verdict.wrong[FENCES].append(f"{job_id} and {seen[run.fence]} share {run.fence}")
        if len({run.fence for run in runs}) < len(runs) and any(run.fence for run in runs):
            verdict.wrong[FENCES].append(f"{job_id} started twice under one fence")


def _check_order(story: Story, verdict: Verdict) -> None:
    """A fence tells the order of claims: none is lower than that of an end it had to wait for."""
    for job_id, runs in story.runs.items():
        offer = story.offers.get(job_id, {})
        if offer.get("kind") != "family" or job_id == offer["ids"][0]:
            continue
        *others, last = offer["ids"]
        for parent in others if job_id == last else others[:1]:
            ended = story.jobs.get(parent, {}).get("settled_fence", 0)
            if min(run.fence for run in runs) < ended:
                verdict.wrong[ORDER].append(f"{job_id} started before {parent} had ended")


def _check_surroundings(story: Story, faults: Faults, verdict: Verdict) -> None:
    others = story.others
    for rule, kind, fields in (
        (ORPHANS, "orphan", ("master", "pid", "title")),
        (STRAYS, "stray", ("key", "why")),
        (STRAYS, "miscount", ("queue", "what")),
        (BREACHES, "breach", ("what",)),
    ):
        for event in others[kind]:
            verdict.wrong[rule].append(" ".join(str(event[name]) for name in fields))
    for death in others["died"]:
        master, status, t = death["master"], death["status"], death["t"]
        is_killed = status < 0 and faults.on_master(master, t - 60, t)
        is_refused = status == _EX_CONFIG and faults.of_deploy(master, t)
        if status not in _GOOD_EXITS and not is_killed and not is_refused:
            verdict.wrong[DEATHS].append(f"{master}: exit status {status}")


def _check_drain(story: Story, verdict: Verdict) -> None:
    """Where jobs were left, keys are left with them: one mistake, and not many."""
    ends = story.others["drained"]
    if not ends:
        verdict.wrong[UNFINISHED].append("it was cut short")
    elif not all(end["done"] for end in ends):
        keys = len(verdict.wrong.pop(STRAYS, ()))
        told = f"jobs were left, {keys} keys and leases with them"
        told += "".join(f"; {job}" for end in ends for job in end.get("left", ()))
        if verdict.put_back:
            told += f"; {verdict.put_back} starts of what the masters put back at their stop"
        verdict.wrong[UNFINISHED].append(told)


def _was_put_back_at_the_end(run: Run, after: Run, story: Story) -> bool:
    """The masters were stopped with jobs left, and one put back what another one took then."""
    left_at = [end["t"] for end in story.others["drained"] if not end["done"]]
    return bool(left_at) and after.attempt == run.attempt and after.t >= left_at[0]


def main(folder: str) -> int:
    """Prints the verdict; returns the exit status."""
    verdict = check(read_histories(Path(folder)))
    print(
        f"{verdict.jobs} jobs acknowledged, {verdict.starts} starts, {verdict.faults} faults,"
        f" {verdict.unknown} enqueues of unknown outcome"
    )
    print(*verdict.says(), sep="\n")
    print("valid" if verdict.is_valid else "NOT VALID")
    return 0 if verdict.is_valid else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
