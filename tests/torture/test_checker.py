"""The checker against forged histories: the good one is valid, and each bad one is found out."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.torture.checker import (
    CALLBACKS,
    DOUBLES,
    HOOKS,
    LAST_WORDS,
    ORDER,
    PROMISES,
    RECORDS,
    STARTS,
    check,
)
from tests.torture.history import Event, History, read_histories

A, B, C = 101, 102, 103  # fences


def offer(
    job_id: str, kind: str = "plain", expect: str = "finished", retries: int = 0, again: int = 0
) -> Event:
    number = int(job_id[1:])
    told = {"by": "p", "call": number, "ids": [job_id], "kind": kind, "again": again}
    return {"ev": "offer", "t": 1.0, **told, "expect": [expect], "retries": retries}


def ack(job_id: str) -> Event:
    return {"ev": "ack", "t": 1.1, "by": "p", "call": int(job_id[1:])}


def start(job_id: str, t: float, fence: int, attempt: int = 1, master: str = "m1.1") -> Event:
    ran: Event = {"id": job_id, "fence": fence, "attempt": attempt, "master": master}
    return {"ev": "start", "t": t, **ran, "pid": fence}


def end(job_id: str, t: float, fence: int, how: str = "returned") -> Event:
    return {"ev": "end", "t": t, "id": job_id, "fence": fence, "pid": fence, "how": how}


def job(job_id: str, fence: int, status: str = "finished", **more: Any) -> Event:
    result = f"{job_id}/{fence}" if status == "finished" else None
    stands: Event = {
        "records": 1,
        "result": result,
        "settled_fence": fence,
        "cause": "",
        "pid": fence,
    }
    stands |= {"master": "m1", "ended": 9.0, "losses": 0, "expires": True, "misplaced": ""}
    return {"ev": "job", "id": job_id, "status": status, **stands, **more}


def fault(name: str, begin: float, end: float, master: str = "m1.1", **more: Any) -> Event:
    when: Event = {"begin": begin, "end": end, "in_flight": 1}
    hit = {"level": "master", "master": master, "pid": 0, "jobs": []} | more
    return {"ev": "fault", "t": end, "name": name, "group": "processes", **when, **hit}


DRAINED: Event = {"ev": "drained", "t": 10.0, "done": True, "seconds": 9.0}
RAN = [start("j1", 2.0, A), end("j1", 2.1, A), job("j1", A)]
RAN_TWICE = [start("j1", 2.0, A), start("j1", 5.0, B, master="m2.1"), end("j1", 5.1, B)]

# A job that ran; one that was lost with its master and ran again; one that failed, and was retried;
# one whose enqueue nobody knows of, and that is not there.
GOOD = [
    *(offer("j1"), ack("j1"), *RAN, DRAINED),
    *(offer("j2"), ack("j2"), start("j2", 3.0, 201), start("j2", 5.0, 202, master="m2.1")),
    *(end("j2", 5.1, 202), job("j2", 202), fault("SIGKILL of a master", 4.0, 4.0)),
    *(offer("j3", "flaky", retries=1), ack("j3"), start("j3", 6.0, 301)),
    *(end("j3", 6.1, 301, "ValueError"), start("j3", 7.0, 302, attempt=2)),
    *(end("j3", 7.1, 302), job("j3", 302)),
    *(offer("j4"), {"ev": "unknown", "t": 1.2, "by": "p", "call": 4, "error": "gone"}),
]


def wrong(*events: Event, drained: bool = True) -> dict[str, list[str]]:
    """What the checker has to say against these events."""
    return dict(check([*events, *([DRAINED] if drained else [])]).wrong)


def test_a_good_history_is_valid_and_its_double_is_explained_by_its_fault() -> None:
    verdict = check(GOOD)

    assert dict(verdict.wrong) == {}
    assert verdict.doubled == {"SIGKILL of a master": 1}
    assert (verdict.jobs, verdict.starts, verdict.unknown) == (3, 5, 1)


def test_an_acknowledged_job_that_is_gone_is_lost() -> None:
    assert [*wrong(offer("j1"), ack("j1"), *RAN[:2])] == ["lost"]


def test_an_acknowledged_job_without_an_end_is_lost() -> None:
    assert [*wrong(offer("j1"), ack("j1"), job("j1", 0, "queued"))] == ["lost"]


def test_a_job_of_an_unknown_enqueue_that_is_there_must_come_to_its_end() -> None:
    unknown: Event = {"ev": "unknown", "t": 1.2, "by": "p", "call": 1, "error": "gone"}

    assert [*wrong(offer("j1"), unknown, job("j1", 0, "queued"))] == ["lost"]
    assert wrong(offer("j1"), unknown, *RAN) == {}


@pytest.mark.parametrize(
    ("name", "is_explained"), [("SIGTERM of a master", True), ("reload", False)]
)
def test_a_stop_explains_what_was_put_back_until_its_master_was_gone(
    name: str, is_explained: bool
) -> None:
    begun_late = [start("j1", 6.0, A), end("j1", 6.1, A)]
    again = [start("j1", 6.3, B, master="m2.1"), end("j1", 6.4, B), job("j1", B)]
    death: Event = {"ev": "died", "t": 6.2, "master": "m1.1", "status": 0}

    told = wrong(offer("j1"), ack("j1"), *begun_late, *again, fault(name, 4.0, 4.0), death)

    assert [*told] == ([] if is_explained else [DOUBLES])


CALLED = [offer("j1", "called"), ack("j1"), *RAN[:2]]
AFTER = [start("c1", 3.0, B), end("c1", 3.1, B), job("c1", B)]


def test_an_end_has_one_callback_which_comes_to_its_own_end() -> None:
    assert wrong(*CALLED, job("j1", A, callbacks=["c1"]), *AFTER) == {}
    assert [*wrong(*CALLED, job("j1", A, callbacks=["c1"]), *AFTER[:2])] == ["lost"]
    lacks = [CALLBACKS]
    assert [*wrong(*CALLED, job("j1", A, callbacks=[]))] == lacks
    more = [start("c2", 3.2, C), end("c2", 3.3, C), job("c2", C)]
    assert [*wrong(*CALLED, job("j1", A, callbacks=["c1", "c2"]), *AFTER, *more)] == lacks


REPEATED = [
    *(offer("j1", "repeated", again=1), ack("j1"), start("j1", 2.0, A), end("j1", 2.1, A)),
    *(start("j1", 3.0, B, 2), end("j1", 3.1, B)),
]


def test_a_repeated_job_has_a_record_of_each_success_and_no_run_more() -> None:
    assert wrong(*REPEATED, job("j1", B, records=2)) == {}
    for records in (1, 3):
        assert [*wrong(*REPEATED, job("j1", B, records=records))] == [RECORDS]
    third = [start("j1", 4.0, C, 3), end("j1", 4.1, C)]
    assert [*wrong(*REPEATED, *third, job("j1", C, records=3))] == [RECORDS, STARTS]
    uncharged = [start("j1", 4.0, C, 2), end("j1", 4.1, C)]
    assert [*wrong(*REPEATED, *uncharged, job("j1", C, records=2))] == [DOUBLES]
    failed = job("j1", B, "failed", records=2, cause="crashed: SIGKILL", pid=B)
    killed = fault("SIGKILL of a child", 3.0, 3.0, level="child", pid=B)
    assert wrong(*REPEATED[:-1], failed, killed) == {}


def asks(job_id: str, t: float, fence: int, attempt: int = 1) -> list[Event]:
    return [start(job_id, t, fence, attempt), end(job_id, t + 0.1, fence, "RetryLater")]


def test_a_job_that_asks_to_run_again_runs_again_and_not_too_soon() -> None:
    begun = [offer("j1", "later", again=1), ack("j1"), *asks("j1", 2.0, A)]
    soon, late = ([start("j1", t, B, 2), end("j1", t + 0.1, B), job("j1", B)] for t in (2.2, 2.5))
    assert wrong(*begun, *late) == {}
    assert [*wrong(*begun, *soon)] == [PROMISES]
    assert wrong(*begun, *soon, fault("wall clock an hour forward", 2.0, 2.2)) == {}
    assert wrong(*begun, *soon, {"ev": "by clock", "t": 2.1, "runs": {}}) == {}
    assert [*wrong(*begun, job("j1", A, "failed"))] == ["ended otherwise than it should"]


def test_a_job_that_asks_too_often_fails_no_sooner_than_it_may() -> None:
    begun = [offer("j1", "insistent", "failed", again=1), ack("j1"), *asks("j1", 2.0, A)]
    assert wrong(*begun, *asks("j1", 3.0, B, 2), job("j1", B, "failed")) == {}
    assert [*wrong(*begun, job("j1", A, "failed"))] == [PROMISES]
    more = [*asks("j1", 3.0, B, 2), *asks("j1", 4.0, C, 3)]
    assert set(wrong(*begun, *more, job("j1", C, "failed"))) == {STARTS, PROMISES}


def test_a_webhook_is_taken_at_least_once_and_its_record_tells_so() -> None:
    begun = [offer("j1", "hooked"), ack("j1"), *RAN[:2]]
    asked = job("j1", A, callbacks=["c1"])

    def hook(answer: int, status: str = "finished", of: str = "j1") -> Event:
        return {"ev": "hook", "t": 4.0, "id": of, "status": status, "answer": answer}

    sent = job("c1", B, result="200")
    assert wrong(*begun, asked, hook(503), hook(200), hook(200), sent) == {}
    assert [*wrong(*begun, asked, sent)] == [HOOKS]
    assert [*wrong(*begun, asked, hook(503), sent)] == [HOOKS]
    assert [*wrong(*begun, asked, hook(200), job("c1", B, result="503"))] == [HOOKS]
    assert [*wrong(*begun, asked, hook(200), hook(200, "failed"), sent)] == [HOOKS]
    assert [*wrong(*begun, asked, hook(200), hook(200, of="j2"), sent)] == [HOOKS]
    assert [*wrong(*begun, asked, hook(200))] == ["lost"]
    assert [*wrong(*begun, job("j1", A, callbacks=[]))] == [CALLBACKS]


def test_what_a_job_told_last_is_there_once_it_has_ended() -> None:
    ran = offer("j1", "telling"), ack("j1"), start("j1", 2.0, A), end("j1", 3.0, A)
    assert wrong(*ran, job("j1", A, progress=f"{A} 3000000 1 told")) == {}
    for lacks in ("", f"{A} 3000000 0.5 telling", f"{B} 3000000 1 told"):
        assert [*wrong(*ran, job("j1", A, progress=lacks))] == [LAST_WORDS]


def family(*starts: int) -> list[Event]:
    """Three that wait: j2 for j1, and j3 for both; each starts at its time, and runs for one."""
    offered = offer("j1", "family") | {"ids": ["j1", "j2", "j3"]}
    ran = [
        (start(f"j{number}", t, t), end(f"j{number}", t + 1, t), job(f"j{number}", t))
        for number, t in enumerate(starts, 1)
    ]
    return [offered, ack("j1"), *(event for events in ran for event in events)]


def test_a_job_starts_after_the_end_of_those_it_waits_for() -> None:
    assert wrong(*family(10, 20, 30)) == {}
    assert [*wrong(*family(20, 10, 30))] == [ORDER]
    assert [*wrong(*family(10, 30, 20))] == [ORDER]


def test_a_job_whose_key_another_one_has_taken_is_over_without_a_record() -> None:
    offered = offer("j1", "unique") | {"expect": ["finished", "canceled"]}
    assert wrong(offered, ack("j1"), job("j1", 0, "canceled", records=0)) == {}
    assert [*wrong(offered, ack("j1"), job("j1", 0, "canceled", records=1))] == [RECORDS]


def test_what_the_clock_had_to_make_is_there_and_nothing_else_of_it() -> None:
    ran = [start("c1", 3.0, B), end("c1", 3.1, B), job("c1", B)]
    due: Event = {"ev": "by clock", "t": 9.0, "runs": {"c1": 3.0}}
    assert wrong(due, *ran) == {}
    assert [*wrong({**due, "runs": {"c1": 3.0, "c2": 8.0}}, *ran)] == ["lost"]
    assert [*wrong({**due, "runs": {}}, *ran)] == ["unexpected"]


def test_a_job_that_nobody_enqueued_is_unexpected() -> None:
    assert [*wrong(*RAN)] == ["unexpected"]


def test_a_second_start_without_a_fault_is_an_unexplained_double() -> None:
    events = (offer("j1"), ack("j1"), *RAN_TWICE, job("j1", B))

    assert [*wrong(*events)] == ["unexplained doubles"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        fault("SIGKILL of a master", 4.0, 4.0, master="m3.1"),
        fault("SIGKILL of a master", 7.0, 7.0),
        fault("SIGKILL of a master", 0.1, 0.2),
        fault("SIGKILL of the server", 4.0, 4.0, level="redis"),
        fault("SIGKILL of a child", 4.0, 4.0, level="child", pid=A),
    ],
    ids=["another master", "later", "earlier", "redis", "a child, which is charged"],
)
def test_a_fault_that_could_not_cost_the_lease_explains_no_double(elsewhere: Event) -> None:
    events = (offer("j1"), ack("j1"), *RAN_TWICE, job("j1", B))

    assert [*wrong(*events, elsewhere)] == ["unexplained doubles"]


def test_a_retry_of_a_job_that_had_returned_needs_a_killed_child() -> None:
    told = (offer("j1", retries=1), ack("j1"), start("j1", 2.0, A), end("j1", 2.1, A))
    again = (*told, start("j1", 3.0, B, attempt=2), end("j1", 3.1, B), job("j1", B))
    killed = fault("SIGKILL of a child", 2.1, 2.1, level="child", pid=A)

    assert [*wrong(*again)] == ["unexplained doubles"]
    assert wrong(*again, killed) == {}


def test_more_attempts_than_retries_allow_are_seen() -> None:
    runs = [start("j1", 2.0, A), end("j1", 2.1, A, "ValueError")]
    runs += [start("j1", 3.0, B, attempt=2), end("j1", 3.1, B)]

    found = wrong(offer("j1"), ack("j1"), *runs, job("j1", B))

    assert [*found] == ["more attempts than retries allow", "unexplained doubles"]


STOPPED = fault("SIGSTOP of a master past the lease", 2.5, 19.0)


def test_a_stale_settle_that_was_accepted_is_seen_by_its_token_and_by_its_result() -> None:
    told = (offer("j1"), ack("j1"), *RAN_TWICE, STOPPED)

    assert [*wrong(*told, job("j1", A))] == ["stale settles accepted"]
    late_result = job("j1", B) | {"result": f"j1/{A}"}
    assert [*wrong(*told, late_result)] == ["stale settles accepted"]
    assert wrong(*told, job("j1", B)) == {}


def test_a_fence_that_does_not_rise_is_seen() -> None:
    runs = (start("j1", 2.0, B), start("j1", 5.0, A, master="m2.1"), end("j1", 5.1, A))
    fell = fault("SIGKILL of a master", 3.0, 3.0, master="m1.1")

    found = wrong(offer("j1"), ack("j1"), *runs, job("j1", B), fell)

    assert "fences that do not rise" in found


def test_a_fence_given_twice_is_seen() -> None:
    same = (start("j2", 3.0, A), end("j2", 3.1, A), job("j2", A))

    found = wrong(offer("j1"), ack("j1"), *RAN, offer("j2"), ack("j2"), *same)

    assert [*found] == ["fences that do not rise"]


def test_a_job_with_two_terminal_records_is_seen() -> None:
    found = wrong(offer("j1"), ack("j1"), *RAN[:2], job("j1", A, records=2))

    assert [*found] == ["jobs with several terminal records"]


def test_an_orphan_is_seen() -> None:
    orphan: Event = {"ev": "orphan", "t": 6.0, "master": "m1.1", "pid": 77, "title": "sleep 1000"}

    assert wrong(offer("j1"), ack("j1"), *RAN, orphan) == {"orphans": ["m1.1 77 sleep 1000"]}


def test_a_job_that_ended_otherwise_than_it_should_needs_its_fault() -> None:
    failed = job("j1", A, "failed", cause="crashed: SIGKILL")
    events = (offer("j1"), ack("j1"), start("j1", 2.0, A), failed)
    killed = fault("SIGKILL of a child", 2.1, 2.1, level="child", pid=A)

    assert [*wrong(*events)] == ["ended otherwise than it should"]
    assert [*wrong(*events, killed | {"pid": 999})] == ["ended otherwise than it should"]
    assert wrong(*events, killed) == {}


def test_a_wrong_result_and_a_result_of_nothing_are_seen() -> None:
    other = job("j1", A) | {"result": "j7/101"}

    assert [*wrong(offer("j1"), ack("j1"), *RAN[:2], other)] == ["wrong results"]
    assert [*wrong(offer("j1"), ack("j1"), job("j1", A))] == ["wrong results"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"expires": False}, "terminal records without an end"),
        ({"misplaced": "finished, and in low:failed"}, "stray keys and leases"),
    ],
)
def test_a_record_that_stays_or_stands_elsewhere_is_seen(change: Event, rule: str) -> None:
    assert [*wrong(offer("j1"), ack("j1"), *RAN[:2], job("j1", A) | change)] == [rule]


@pytest.mark.parametrize(
    ("event", "rule"),
    [
        ({"ev": "stray", "key": "{rqd}:x", "why": "stays for ever"}, "stray keys and leases"),
        ({"ev": "miscount", "queue": "low", "what": "2 counted, 1"}, "stray keys and leases"),
        ({"ev": "breach", "t": 1, "what": "a is leased and queued"}, "breaches seen while it ran"),
        (
            {"ev": "died", "t": 5.0, "master": "m1.1", "status": 1},
            "masters that died of themselves",
        ),
        (
            {"ev": "died", "t": 5.0, "master": "m1.1", "status": -11},
            "masters that died of themselves",
        ),
    ],
)
def test_what_is_wrong_around_the_jobs_is_seen(event: Event, rule: str) -> None:
    assert [*wrong(offer("j1"), ack("j1"), *RAN, event)] == [rule]


@pytest.mark.parametrize(("at", "is_explained"), [(4.5, True), (9.0, False)])
def test_a_master_that_starts_amid_a_broken_deploy_may_say_so(
    at: float, is_explained: bool
) -> None:
    broken = fault("reload to a broken deploy", 4.0, 5.0, level="job")
    death: Event = {"ev": "died", "t": at, "master": "m1.2", "status": 78}

    told = wrong(offer("j1"), ack("j1"), *RAN, broken, death)

    assert [*told] == ([] if is_explained else ["masters that died of themselves"])


def test_a_campaign_that_did_not_come_to_its_end_is_not_valid() -> None:
    assert [*wrong(offer("j1"), ack("j1"), *RAN, drained=False)] == [
        "campaign did not come to its end"
    ]


def test_what_is_left_with_jobs_that_were_left_is_told_with_them() -> None:
    left = {"ev": "drained", "t": 4.0, "done": False, "seconds": 9.0}
    key = {"ev": "stray", "key": "{rqd}:group:g", "why": "stays for ever"}
    again = job("j1", 0, "queued", misplaced="", records=0, expires=False)
    told = wrong(offer("j1"), ack("j1"), *RAN_TWICE, again, key, left, drained=False)
    assert told == {
        "lost": ["j1 (plain): queued"],
        "campaign did not come to its end": [
            (
                "jobs were left, 1 keys and leases with them;"
                " 1 starts of what the masters put back at their stop"
            )
        ],
    }


def test_the_program_reads_a_folder_and_exits_by_its_verdict(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder, events in ((good, GOOD), (bad, [*GOOD, offer("j9"), ack("j9")])):
        folder.mkdir()
        history = History(folder / "all.jsonl")
        history.note_all(iter(events))
        history.close()

    said = {folder: run_checker(folder) for folder in (good, bad)}

    assert (said[good].returncode, said[bad].returncode) == (0, 1)
    assert "lost: 0" in said[good].stdout
    assert "lost: 1\n    j9 (plain): gone" in said[bad].stdout


def test_a_torn_line_is_refused(tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text(json.dumps(DRAINED)[:20] + "\n")

    with pytest.raises(ValueError, match=r"all\.jsonl:1 is no event"):
        list(read_histories(tmp_path))


def run_checker(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.torture.checker", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)
