"""The master: watches the queues, has children run the jobs, and settles their outcomes.

The master has one thread. It never unpickles, imports no user code, and does not exit because
Redis did.

A turn is one round trip that records ended attempts and claims jobs. A claim is a lease, named by a
token. The token contains a fence, a number that grows with each claim: Redis refuses an outcome
under an older one. A marker in Redis wakes a waiting master.

The loop in `Master._work` is the story. Its main parts are workers/pool.py for
processes, dispatcher.py for jobs and outcomes, and lifecycle.py for pauses and the end.
control/commands.py obeys operators, and control/heartbeat.py shows the master's state.
"""

from __future__ import annotations

import random
import signal
import time

import setproctitle

from rqd.daemon.autoreload import Autoreload
from rqd.daemon.config import Config, Reread, changed, merge_reloadable
from rqd.daemon.control.authentication import Authentication
from rqd.daemon.control.commands import Commands
from rqd.daemon.control.heartbeat import PULSE_S, Heartbeat
from rqd.daemon.control.replies import Replies
from rqd.daemon.control.stack_requests import StackRequests
from rqd.daemon.cron import CronScheduler
from rqd.daemon.dispatcher import Dispatcher
from rqd.daemon.event_loop import Loop
from rqd.daemon.host.embedded import EmbeddedServer
from rqd.daemon.host.process_limits import check_kernel, make_room
from rqd.daemon.instance import Instance
from rqd.daemon.lifecycle import EX_TEMPFAIL, Lifecycle
from rqd.daemon.log.log import Log, about, open_log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.signals import HANDLED, Shutdown, obey
from rqd.daemon.timers import Needs, Timers
from rqd.daemon.workers.pool import Pool
from rqd.daemon.workers.usage import UsageMonitor
from rqd.daemon.zygote.exit_cleanup import reap_strangers
from rqd.model.errors import ConfigurationError, RqdError
from rqd.store.connection import answers_are_read, translate_errors
from rqd.store.embedded import embedded_dir, is_embedded
from rqd.store.messages import BeatAnswer
from rqd.store.permissions import check_permissions
from rqd.store.server_check import check_server

_EMBEDDED_READY_S = 30.0
_BEAT_S = 5.0
_POLL_S = 1.0
_SAMPLE_S = 1.0
_EMBEDDED_S = 0.25


def run(config: Config, reread: Reread) -> int:
    """Runs a master until it stops; returns the process's exit status.

    `reread` reads the settings again at each reload. Raises ConfigurationError,
    ServerUnavailableError or MasterExistsError if the master can't begin.
    """
    return Master(config, reread, open_log(config.log)).run()


class Master:
    """A master process: its parts, and the loop that drives them."""

    def __init__(self, config: Config, reread: Reread, log: Log) -> None:
        setproctitle.setproctitle(f"rqd: master [{','.join(config.queues)}] starting")
        self._config = config
        self._reread = reread
        self._log = log
        self._timers = timers = Timers()
        now = time.monotonic()
        self._beat_timer = timers.timer(self._beat, Needs.BETWEEN_TURNS, now)
        self._pulse_timer = timers.timer(self._pulse, at=now)
        self._poll_timer = timers.timer(self._poll, Needs.REDIS, now)
        self._sample_timer = timers.timer(self._sample, at=now)
        self._embedded_timer = timers.timer(self._tend_embedded)
        self._loop = Loop(HANDLED)
        self._link = RedisLink(config.url, config.namespace, self._loop, log)
        self._instance = instance = Instance(config.url, config.namespace, config.name)
        self._heartbeat = Heartbeat(config, instance, self._link, log)
        self._pool = Pool(config, instance, self._loop, timers, log)
        self._replies = Replies(self._link, instance, timers)
        self._authentication = Authentication(config, instance)
        self._dispatcher = Dispatcher(config, instance, self._link, self._pool, timers, log)
        self._usage = UsageMonitor(self._pool, timers)
        self._cron = CronScheduler(config, self._link, timers, log)
        self._autoreload = Autoreload(self._loop, log)
        self._lifecycle = Lifecycle(config, self._pool, self._dispatcher, timers, log)
        self._commands = Commands(
            self._pool,
            self._lifecycle,
            self._replies,
            self._authentication,
            StackRequests(self._pool, self._replies, timers),
            log,
        )
        self._shown_shutdown = Shutdown.NONE
        self._embedded: EmbeddedServer | None = None
        self._embedded_at = 0.0

    def run(self) -> int:
        """Connects, works until the end, and unregisters; returns the exit status."""
        if is_embedded(self._config.url):
            self._embedded = EmbeddedServer(embedded_dir(self._config.url))
        try:
            self._begin()
            try:
                self._autoreload.start(self._config)
                self._pool.start(time.monotonic())
                self._cron.prepare()  # while the zygote boots
                self._work()
            finally:
                self._autoreload.close()
                self._pool.close(spare=self._own_pids())
            self._dispatcher.history.flush(time.monotonic())
            highest = max(self._pool.workers.by_number)
            self._heartbeat.leave(highest, self._lifecycle.exit_status, time.monotonic())
        finally:
            if self._embedded is not None:
                self._embedded.stop()
        self._loop.block_signals(HANDLED)
        return self._lifecycle.exit_status

    def _work(self) -> None:
        timers, link, dispatcher = self._timers, self._link, self._dispatcher
        while not self._lifecycle.is_done():
            ready = self._loop.wait(timers.next_at(link.gates()) - time.monotonic())
            now = time.monotonic()
            if dispatcher.on_wake(ready, now):
                self._beat_timer.hasten(now)  # commands come with the beat's answer
            dispatcher.add_ended(self._pool.poll(ready, now))
            self._obey_signals(now)
            if self._config.autoreload and self._autoreload.has_changed(ready):
                self._reload("", now)
            if dispatcher.on_turn_reply(ready, now):
                # The next turn goes now, so it carries all attempts that have ended so far.
                dispatcher.add_ended(self._pool.channels.read_batched(now))
            if not dispatcher.expects_jobs:
                self._pool.steal(now)
            # Under load, a beat has room only between a turn's answer and the next turn.
            # Unless a beat is due the turn goes first, as somebody may wait for it.
            if now < self._beat_timer.at:
                dispatcher.send_turn(now)
            self._note_news(now)
            timers.run_due(now, link.gates())
            self._note_news(now)
            dispatcher.send_turn(now)
            dispatcher.log_settled(now)
            dispatcher.listen(now)
            busy = self._lifecycle.busy
            self._heartbeat.announce(self._lifecycle.state_with(busy), busy, self._pool)
            if self._lifecycle.ends_by_itself:
                self._lifecycle.end_by_itself(now)

    def _note_news(self, now: float) -> None:
        """Acts on changes that the parts have noted, and has their timers set."""
        pool, lifecycle = self._pool, self._lifecycle
        if pool.config is not self._config:
            self._use_settings(now)
        if pool.forking.has_news or lifecycle.has_news:
            pool.forking.has_news = lifecycle.has_news = False
            self._beat_timer.hasten(now)
            self._pulse_timer.hasten(now)
            # A worker may be free whose child could not be had before.
            self._dispatcher.claims.request()
        if lifecycle.orders.shutdown > self._shown_shutdown:
            self._shown_shutdown = lifecycle.orders.shutdown
            self._heartbeat.stopping()
            self._cron.close()
        workers = pool.workers
        if workers.limited:
            self._usage.wake()
        if workers.updated or workers.asking or workers.followed:
            self._dispatcher.job_updates.wake()
        if self._embedded is not None and not self._link.is_up:
            self._embedded_timer.hasten(self._embedded_at)

    def _obey_signals(self, now: float) -> None:
        lifecycle = self._lifecycle
        for signum in self._loop.signals():
            if signum == signal.SIGCHLD:
                zygotes = {zygote.pid for zygote in self._pool.zygotes.table}
                reap_strangers(zygotes | self._own_pids())
            before = lifecycle.orders.shutdown
            lifecycle.orders = orders = obey(lifecycle.orders, signum, now)
            if orders.workers_delta:
                lifecycle.resize(lifecycle.summary()["workers"] + orders.workers_delta, now)
            if orders.reload:
                self._reload("", now)
            if orders.kill_jobs:
                lifecycle.kill_jobs("killed by an operator", now)
            if orders.pause is not None:
                lifecycle.pause(orders.pause, now)
            if orders.shutdown > before:
                lifecycle.shut_down(now)

    def _reload(self, request: str, now: float) -> None:
        self._log.reopen()  # even if the reload fails: the log's file was moved away
        if self._lifecycle.is_stopping:
            return
        try:
            config, for_a_start = merge_reloadable(self._config, self._reread())
            make_room(config.workers, config.max_files)
        except ConfigurationError as error:
            self._pool.forking.refuse_reload(request, str(error), now)
            return
        except Exception as error:  # noqa: BLE001 - see below
            # A new setting may import modules for the first time, perhaps of an rqd installed
            # since. Where the two versions disagree, any exception can come.
            self._pool.forking.refuse_reload(request, f"{type(error).__name__}: {error}", now)
            return
        if for_a_start:
            self._log.warning("these settings need a restart", settings=for_a_start)
        self._pool.forking.reload(request, config, now)

    def _use_settings(self, now: float) -> None:
        """Applies the settings of the zygote that serves now."""
        old, config = self._config, self._pool.config
        self._config = config
        self._dispatcher.configure(config)
        self._heartbeat.configure(config)
        self._authentication.configure(config)
        self._lifecycle.configure(config)
        if old.log != config.log:
            self._log.reopen(config.log)
        if old.workers != config.workers:
            self._pool.slots.resize_to(config.workers, now)
        self._cron.configure(config, now)
        if (old.path, old.preload) != (config.path, config.preload):
            self._autoreload.start(config)
        if names := changed(old, config):
            self._log.info("settings changed", settings=names)
        self._beat_timer.hasten(now)

    # -- timers -----------------------------------------------------------------------------

    def _pulse(self, now: float) -> None:
        self._pulse_timer.hasten(now + min(PULSE_S, self._heartbeat.pulse(self._lifecycle.state)))

    def _poll(self, now: float) -> None:
        """Looks for jobs though no marker came: another master's read may have consumed it."""
        self._poll_timer.hasten(now + _POLL_S)
        self._dispatcher.claims.request()

    def _sample(self, now: float) -> None:
        # Also without jobs: a kill for want of memory shows against the counter of before.
        self._sample_timer.hasten(now + _SAMPLE_S)
        self._usage.sample(now)
        if self._pool.workers.refresh_pids():
            self._beat_timer.hasten(now)

    def _tend_embedded(self, now: float) -> None:
        """Starts the embedded server again if it has ended: Redis is gone."""
        assert self._embedded is not None
        self._embedded_at = now + _EMBEDDED_S
        self._embedded.poll()
        try:
            self._embedded.ensure()
        except RqdError as error:
            self._log.error("embedded server can't be started", error=error)

    def _beat(self, now: float) -> None:
        self._beat_timer.hasten(now + _BEAT_S)
        state, unrecorded = self._lifecycle.state, self._dispatcher.unrecorded
        obeyed = self._commands.obeyed
        answer = self._heartbeat.beat(state, self._pool, unrecorded, obeyed, now)
        if answer is None:
            self._beat_timer.hasten(self._link.next_try(now))
        else:
            self._obey_answer(answer, now)

    def _obey_answer(self, answer: BeatAnswer, now: float) -> None:
        lifecycle = self._lifecycle
        if answer.is_replaced and lifecycle.orders.shutdown is not Shutdown.IMMEDIATE:
            self._log.error("another master has this name by now", master=self._instance.name)
            lifecycle.exit_status = EX_TEMPFAIL
            lifecycle.stop(Shutdown.IMMEDIATE, now)
        for job in self._pool.lose(answer.lost, now):
            self._log.error("lease lost, killing the job", **about(job.claim))
        self._heartbeat.report_reaped(answer.reaped)
        self._cron.hear(answer, now)
        if answer.next_expiry_us is not None:
            # Most often the lease is renewed by then. If not, this beat takes its job back in time.
            in_s = max(0.0, (answer.next_expiry_us - answer.now_us) / 1e6)
            self._beat_timer.hasten(now + in_s + random.uniform(0.05, 0.5))
        lifecycle.suspend(answer.is_suspended, now)
        for request in self._commands.obey(answer.commands, answer.now_us, now):
            self._reload(request, now)
        self._dispatcher.add_ended(self._commands.stop_jobs(answer.stops, now))
        if answer.commands:
            self._beat_timer.hasten(now)  # the next beat says that they were obeyed

    # -- beginning and end -------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            check_kernel()
            make_room(self._config.workers, self._config.max_files)
            self._reach_redis()
            self._heartbeat.register()
            with translate_errors(self._config.url):
                self._cron.load()
        except BaseException:
            self._instance.release()
            raise

    def _reach_redis(self) -> None:
        if self._embedded is not None:
            self._embedded.ensure()
            self._embedded.wait_ready(_EMBEDDED_READY_S)
        with translate_errors(self._config.url), answers_are_read():
            for warning in check_server(self._link.store.redis):
                self._log.warning("redis may lose jobs", why=warning)
            check_permissions(self._link.store.redis, self._link.store.keys)

    def _own_pids(self) -> set[int]:
        server = self._embedded.pid if self._embedded else None
        return self._autoreload.pids | ({server} if server else set())
