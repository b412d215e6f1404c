"""What signals ask of the master, decided without a process."""

import signal

import pytest

from rqd.daemon.signals import Orders, Shutdown, obey


def after(*arrivals: tuple[signal.Signals, float]) -> Orders:
    orders = Orders()
    for signum, at in arrivals:
        orders = obey(orders, signum, at)
    return orders


@pytest.mark.parametrize(
    ("signum", "level"),
    [
        (signal.SIGTERM, Shutdown.GRACEFUL),
        (signal.SIGINT, Shutdown.GRACEFUL),
        (signal.SIGQUIT, Shutdown.IMMEDIATE),
        (signal.SIGHUP, Shutdown.NONE),
        (signal.SIGWINCH, Shutdown.NONE),
        (signal.SIGCHLD, Shutdown.NONE),
    ],
)
def test_each_signal_has_its_level(signum: signal.Signals, level: Shutdown) -> None:
    assert after((signum, 0)).shutdown is level


def test_the_level_of_a_shutdown_never_falls() -> None:
    for later in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTTIN):
        assert after((signal.SIGQUIT, 0), (later, 5)).shutdown is Shutdown.IMMEDIATE
        assert after((signal.SIGTERM, 0), (later, 5)).shutdown >= Shutdown.GRACEFUL


def test_a_second_int_counts_only_a_second_later() -> None:
    early = after((signal.SIGINT, 10), (signal.SIGINT, 10.9))
    assert early.shutdown is Shutdown.GRACEFUL
    assert obey(early, signal.SIGINT, 11).shutdown is Shutdown.IMMEDIATE


def test_repeated_terms_stay_graceful() -> None:
    assert after(*((signal.SIGTERM, float(n)) for n in range(9))).shutdown is Shutdown.GRACEFUL


def test_ttin_and_ttou_ask_for_one_worker_each() -> None:
    assert after((signal.SIGTTIN, 0)).workers_delta == 1
    assert after((signal.SIGTTOU, 0)).workers_delta == -1
    assert after((signal.SIGTTIN, 0), (signal.SIGTERM, 1)).workers_delta == 0


@pytest.mark.parametrize(
    ("signum", "pause", "kill_jobs"),
    [
        (signal.SIGUSR1, None, True),
        (signal.SIGUSR2, True, False),
        (signal.SIGTSTP, True, False),
        (signal.SIGCONT, False, False),
        (signal.SIGWINCH, None, False),
        (signal.SIGTERM, None, False),
    ],
)
def test_pause_resume_and_kill_are_asked_for_once(
    signum: signal.Signals, pause: bool | None, kill_jobs: bool
) -> None:
    orders = after((signum, 0))
    assert (orders.pause, orders.kill_jobs) == (pause, kill_jobs)
    later = obey(orders, signal.SIGCHLD, 1)
    assert (later.pause, later.kill_jobs) == (None, False)
