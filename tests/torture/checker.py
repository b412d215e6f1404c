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

from tests.torture.explain import RETRY, Faults, Run, why_again, why_failed, why_late
from tests.torture.history import Event, read_histories

_TERMINAL = ("finished", "failed", "canceled", "stopped")
# A master told to stop may leave with 75 if Redis is not there to take its last outcomes, and one
# that is started while Redis is away, or its name is taken, with 69.
_GOOD_EXITS = (0, 69, 75)
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
        LAST_WORDS,
        ORDER,
        STARTS,
        ENDS,
    ),
    *(RESULTS, ORPHANS, STRAYS, STAYS, BREACHES, DEATHS, UNFINISHED),
)


@dataclass
class Story:
    """The events, by what they are about."""

    offers: dict[str, Event] = field(default_factory=dict)
    acked: set[str] = field(default_factory=set)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    jobs: dict[str, Event] = field(default_factory=dict)
    others: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))


def tell(events: Iterable[Event]) -> Story:
    """Puts the events in order."""
    story = Story()
    calls: dict[tuple[str, int], Event] = {}
    acks: list[tuple[str, int]] = []
    ends: dict[tuple[str, int, int], str] = {}
    for event in events:
        match event["ev"]:
            case "offer":
                calls[event["by"], event["call"]] = event
                story.offers |= dict.fromkeys(event["ids"], event)
            case "ack":
                acks.append((event["by"], event["call"]))
            case "start":
                story.runs[event["id"]].append(_run(event))
            case "end":
                ends[event["id"], event["pid"], event["fence"]] = event["how"]
            case "job":
                story.jobs[event["id"]] = event
            case kind:
                story.others[kind].append(event)
    for call in acks:
        story.acked |= set(calls[call]["ids"])
    _promise_callbacks(story)
    _promise_runs(story)
    for job_id, runs in story.runs.items():
        for run in runs:
            run.how = ends.get((job_id, run.pid, run.fence))
        runs.sort(key=lambda run: (run.fence, run.t))
    return story


def _promise_callbacks(story: Story) -> None:
    """What the end of a job has made is promised as the job was, and is to succeed."""
    for job_id, job in story.jobs.items():
        if job_id not in story.offers:
            continue
        told = {"kind": "callback", "expect": ["finished"], "retries": 0}
        for callback_id in job.get("callbacks", ()):
            story.offers[callback_id] = {**story.offers[job_id], **told, "ids": [callback_id]}
            story.acked.add(callback_id)


def _promise_runs(story: Story) -> None:
    """What the clock had to make is promised, and nothing else of the kind."""
    told = {"kind": "by clock", "expect": ["finished"], "retries": 0}
    for event in story.others["by clock"]:
        for job_id, at in event["runs"].items():
            story.offers[job_id] = {**told, "t": at, "ids": [job_id]}
            story.acked.add(job_id)


def _run(event: Event) -> Run:
    return Run(
        *(event["id"], event["t"], event["fence"], event["attempt"], event["pid"]),
        event["master"],
    )


def check(events: Iterable[Event]) -> Verdict:
    """The verdict on a campaign with these events."""
    story = tell(events)
    faults = Faults(story.others["fault"])
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
    _check_surroundings(story, faults, verdict)
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
    if job["records"] != (0 if was_replaced else 1):
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
    if offer["kind"] == "called" and len(job["callbacks"]) != 1:
        verdict.wrong[CALLBACKS].append(f"{job_id} {job['status']} has {len(job['callbacks'])}")
    if job["status"] == "finished":
        _check_result(job_id, job, runs, verdict)
        told_by, _, told = job.get("progress", "").partition(" ")
        is_last = told.endswith(" 1 told") and told_by == str(job["settled_fence"])
        if offer["kind"] == "telling" and not is_last:
            verdict.wrong[LAST_WORDS].append(f"{job_id}: {told_by} {told}")
    newest = max((run.fence for run in runs), default=0)
    # What became of it when its master was lost nobody has settled.
    is_unsettled = was_replaced or job["cause"].startswith(("abandoned", "stopped"))
    if job["settled_fence"] < newest and not is_unsettled:
        told = f"{job_id} was settled under {job['settled_fence']} though {newest} had started"
        verdict.wrong[STALE].append(told)


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
    retries, retried = story.offers[job_id]["retries"], 0
    highest = max(run.attempt for run in runs)
    if highest > 1 + retries:
        verdict.wrong[STARTS].append(f"{job_id}: attempt {highest}, {retries} retries")
    for run, after in pairwise(runs):
        why = why_again(run, after, retries, retried, faults)
        if why is None:
            first = f"{run.master} pid {run.pid} at {run.t:.3f} ({run.how})"
            second = f"{after.master} pid {after.pid} at {after.t:.3f}"
            verdict.wrong[DOUBLES].append(f"{job_id}: {first}, {second}")
        elif why == RETRY:
            retried += 1
        else:
            retried += after.attempt > run.attempt
            verdict.doubled[why] += 1
        if after.t < run.t and why_late(run, after, faults) is None:
            told = f"{job_id}: {run.fence} started after {after.fence}"
            verdict.wrong[FENCES].append(told)


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
        hit = faults.on_master(death["master"], death["t"] - 60, death["t"])
        if death["status"] not in _GOOD_EXITS and not (hit and death["status"] < 0):
            verdict.wrong[DEATHS].append(f"{death['master']}: exit status {death['status']}")
    ends = others["drained"]
    if not ends or not all(end["done"] for end in ends):
        verdict.wrong[UNFINISHED].append("jobs were left" if ends else "it was cut short")


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
