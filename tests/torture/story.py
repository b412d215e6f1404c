"""A campaign's events, put in order: what was promised, what ran, how it stands in the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.torture.explain import Run
from tests.torture.history import Event


@dataclass
class Story:
    """The events, by what they are about."""

    offers: dict[str, Event] = field(default_factory=dict)
    acked: set[str] = field(default_factory=set)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    jobs: dict[str, Event] = field(default_factory=dict)
    hooks: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    others: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))


def tell(events: Iterable[Event]) -> Story:
    """Puts the events in order."""
    story = Story()
    calls: dict[tuple[str, int], Event] = {}
    acks: list[tuple[str, int]] = []
    ends: dict[tuple[str, int, int], Event] = {}
    for event in events:
        match event["ev"]:
            case "offer":
                event = {"again": 0, **event}
                calls[event["by"], event["call"]] = event
                story.offers |= dict.fromkeys(event["ids"], event)
            case "ack":
                acks.append((event["by"], event["call"]))
            case "start":
                story.runs[event["id"]].append(_run(event))
            case "end":
                ends[event["id"], event["pid"], event["fence"]] = event
            case "job":
                story.jobs[event["id"]] = event
            case "hook":
                story.hooks[event["id"]].append(event)
            case kind:
                story.others[kind].append(event)
    for call in acks:
        story.acked |= set(calls[call]["ids"])
    _promise_callbacks(story)
    _promise_runs(story)
    _end_runs(story, ends)
    return story


def _end_runs(story: Story, ends: dict[tuple[str, int, int], Event]) -> None:
    for job_id, runs in story.runs.items():
        for run in runs:
            run.end(ends.get((job_id, run.pid, run.fence)))
        runs.sort(key=lambda run: (run.fence, run.t))


def _promise_callbacks(story: Story) -> None:
    """What the end of a job has made is promised as the job was, and is to succeed."""
    for job_id, job in story.jobs.items():
        if job_id not in story.offers:
            continue
        is_hook = story.offers[job_id]["kind"] == "hooked"
        told: Event = {"kind": "hook" if is_hook else "callback", "of": job_id, "again": 0}
        told |= {"expect": ["finished"], "retries": 0}
        for callback_id in job.get("callbacks", ()):
            story.offers[callback_id] = {**story.offers[job_id], **told, "ids": [callback_id]}
            story.acked.add(callback_id)


def _promise_runs(story: Story) -> None:
    """What the clock had to make is promised, and nothing else of the kind."""
    told = {"kind": "by clock", "expect": ["finished"], "retries": 0, "again": 0}
    for event in story.others["by clock"]:
        for job_id, at in event["runs"].items():
            story.offers[job_id] = {**told, "t": at, "ids": [job_id]}
            story.acked.add(job_id)


def _run(event: Event) -> Run:
    return Run(
        *(event["id"], event["t"], event["fence"], event["attempt"], event["pid"]),
        event["master"],
    )
