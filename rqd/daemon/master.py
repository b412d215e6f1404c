"""The master: watches the queues, has children run the jobs, and settles their outcomes.

The master has one thread. It never unpickles, imports no user code, and does not exit because
Redis did. The loop in `Master._work` is the story. Its main parts are workers/pool.py for
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
from rqd.daemon.control.heartbeat import Heartbeat
from rqd.daemon.control.replies import Replies
from rqd.daemon.cron import Timetable
from rqd.daemon.dispatcher import Dispatcher
from rqd.daemon.event_loop import Loop
from rqd.daemon.host.embedded import EmbeddedServer
from rqd.daemon.host.process_limits import check_kernel, make_room
from rqd.daemon.instance import Instance
from rqd.daemon.job_updates import JobUpdates
from rqd.daemon.lifecycle import EX_TEMPFAIL, Lifecycle
from rqd.daemon.log.log import Log, about, open_log
from rqd.daemon.redis_client import RedisLink
from rqd.daemon.signals import HANDLED, Shutdown, obey
from rqd.daemon.timers import Duties, Duty
from rqd.daemon.workers.pool import Children
from rqd.daemon.workers.usage import UsageMonitor
from rqd.model.errors import ConfigurationError, RqdError
from rqd.store.connection import answers_are_read, translate_errors
from rqd.store.embedded import embedded_dir, is_embedded
from rqd.store.messages import BeatAnswer
from rqd.store.permissions import check_permissions
from rqd.store.server_check import check_server

_EMBEDDED_READY_S = 30.0


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
        self._duties = Duties(time.monotonic())
        self._loop = Loop(HANDLED)
        self._link = RedisLink(config.url, config.namespace, self._loop, log)
        self._instance = instance = Instance(config.url, config.namespace, config.name)
        self._heartbeat = Heartbeat(config, instance, self._link, log)
        self._children = Children(config, instance, self._loop, log)
        self._job_updates = JobUpdates(self._link, self._children)
        self._answers = Replies(self._link, instance)
        self._authentication = Authentication(config, instance)
        self._dispatcher = Dispatcher(
            config, instance, self._link, self._children, self._job_updates, log
        )
        self._usage = UsageMonitor(self._children)
        self._timetable = Timetable(config, self._link, log)
        self._autoreload = Autoreload(self._loop, log)
        self._lifecycle = Lifecycle(
            config, self._children, self._dispatcher, self._duties, log, self._on_stop
        )
        self._commands = Commands(
            self._children,
            self._dispatcher,
            self._lifecycle,
            self._answers,
            self._authentication,
            log,
            self._reload,
        )
        self._embedded: EmbeddedServer | None = None

    def run(self) -> int:
        """Connects, works until the end, and unregisters; returns the exit status."""
        if is_embedded(self._config.url):
            self._embedded = EmbeddedServer(embedded_dir(self._config.url))
        try:
            self._begin()
            try:
                self._autoreload.start(self._config)
                self._children.start(time.monotonic())
                self._timetable.prepare()  # while the zygote boots
                self._work()
            finally:
                self._autoreload.close()
                self._children.close(but=self._own_pids())
            highest = max(self._children.workers.by_number)
            self._heartbeat.leave(highest, self._lifecycle.exit_status, time.monotonic())
        finally:
            if self._embedded is not None:
                self._embedded.stop()
        self._loop.block_signals(HANDLED)
        return self._lifecycle.exit_status

    def _work(self) -> None:
        while not self._lifecycle.is_done():
            ready = self._loop.wait(self._next_due() - time.monotonic())
            now = time.monotonic()
            if self._dispatcher.on_wake(ready, now):
                self._duties.hasten(Duty.BEAT, now)  # commands come with the beat's answer
            self._dispatcher.take(self._children.collect(ready, now))
            self._obey_signals(now)
            if self._autoreload.has_changed(ready):
                self._reload("", now)
            if self._dispatcher.on_turn_reply(ready, now):
                # The next turn goes now, so it carries all attempts that have ended so far.
                self._dispatcher.take(self._children.read_batched(now))
            if not self._dispatcher.expects_jobs:
                self._children.steal(now)
            # Under load, a beat has room only between a turn's answer and the next turn.
            # Unless a beat is due the turn goes first, as somebody may wait for it.
            if now < self._duties.next_due(Duty.BEAT):
                self._dispatcher.settle_and_claim(now)
            self._perform_due_duties(now)
            self._dispatcher.settle_and_claim(now)
            self._dispatcher.log_settled(now)
            self._dispatcher.listen(now)
            self._heartbeat.announce(self._lifecycle.state, self._lifecycle.busy, self._children)
            self._lifecycle.end_by_itself(now)

    def _next_due(self) -> float:
        link, duties = self._link, self._duties
        at_redis = [
            self._dispatcher.next_due,
            self._job_updates.next_due(),
            self._answers.next_due(),
        ]
        if not link.turns.is_under_way:
            at_redis.append(duties.next_due(Duty.BEAT))
        if not self._lifecycle.is_stopping:
            at_redis.append(self._timetable.next_at)
            if not self._dispatcher.is_paused:
                at_redis.append(duties.next_due(Duty.POLL))
        here = [self._children.next_due(), duties.next_due(Duty.PULSE), self._lifecycle.next_due()]
        here += [self._usage.next_due(), self._commands.next_due()]
        if self._children.workers.runs() or self._children.workers.unshown():
            here.append(duties.next_due(Duty.SAMPLE))
        if self._embedded and not link.is_up:
            here.append(duties.next_due(Duty.EMBEDDED))
        # While Redis is gone, duties that need it are not due before the next try.
        return min(*here, max(min(at_redis), link.retry_at))

    def _obey_signals(self, now: float) -> None:
        lifecycle = self._lifecycle
        for signum in self._loop.signals():
            if signum == signal.SIGCHLD:
                self._children.reap_strangers(but=self._own_pids())
            before = lifecycle.orders.shutdown
            lifecycle.orders = orders = obey(lifecycle.orders, signum, now)
            if orders.workers_delta:
                lifecycle.resize(lifecycle.standing()["workers"] + orders.workers_delta, now)
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
            self._children.refuse_reload(request, str(error))
            return
        except Exception as error:  # noqa: BLE001 - see below
            # A new setting may import modules for the first time, perhaps of an rqd installed
            # since. Where the two versions disagree, any exception can come.
            self._children.refuse_reload(request, f"{type(error).__name__}: {error}")
            return
        if for_a_start:
            self._log.warning("these settings need a restart", settings=for_a_start)
        self._children.reload(request, config, now)

    def _take_settings(self, now: float) -> None:
        """Applies the settings of the serving zygote, if they are new."""
        old, config = self._config, self._children.config
        if config is old:
            return
        self._config = config
        self._dispatcher.use(config)
        self._heartbeat.use(config)
        self._authentication.use(config)
        self._lifecycle.use(config)
        if old.log != config.log:
            self._log.reopen(config.log)
        if old.queues != config.queues:
            self._dispatcher.stop_waiting()
        if old.workers != config.workers:
            self._children.places.resize_to(config.workers, now)
        self._timetable.use(config, now)
        if (old.path, old.preload) != (config.path, config.preload):
            self._autoreload.start(config)
        if names := changed(old, config):
            self._log.info("settings changed", settings=names)
        self._duties.hasten(Duty.BEAT, now)

    def _perform_due_duties(self, now: float) -> None:
        duties = self._duties
        self._dispatcher.take(self._children.release_waiting(now))
        self._children.perform(now)
        self._take_settings(now)
        self._usage.perform(now)
        if self._children.has_news:
            self._children.has_news = False
            duties.hasten(Duty.BEAT, now)
            duties.hasten(Duty.PULSE, now)
            self._dispatcher.look()  # a worker may be free whose child could not be had before
        self._lifecycle.end_grace(now)
        if now >= self._dispatcher.next_promotion_at:
            self._dispatcher.next_promotion_at = float("inf")  # until the turn's answer sets it
            self._dispatcher.look()
        if duties.take(Duty.PULSE, now):
            duties.hasten(Duty.PULSE, now + self._heartbeat.pulse(self._lifecycle.state))
        if duties.take(Duty.POLL, now):
            self._dispatcher.look()
        if duties.take(Duty.SAMPLE, now):
            self._usage.sample(now)
            if self._children.workers.refresh_pids():
                duties.hasten(Duty.BEAT, now)
        if self._embedded and not self._link.is_up and duties.take(Duty.EMBEDDED, now):
            self._tend_embedded(self._embedded)
        self._job_updates.perform(now)
        self._commands.perform(now)
        self._timetable.perform(now)
        # Not while a turn is under way: it writes newer values into the rows than we know.
        if not self._link.turns.is_under_way and duties.take(Duty.BEAT, now):
            self._beat(now)

    def _beat(self, now: float) -> None:
        state, unrecorded = self._lifecycle.state, self._dispatcher.unrecorded
        obeyed = self._commands.obeyed
        answer = self._heartbeat.beat(state, self._children, unrecorded, obeyed, now)
        if answer is None:
            self._duties.hasten(Duty.BEAT, self._link.next_try(now))
        else:
            self._obey_answer(answer, now)

    def _obey_answer(self, answer: BeatAnswer, now: float) -> None:
        lifecycle = self._lifecycle
        if answer.is_replaced and lifecycle.orders.shutdown is not Shutdown.IMMEDIATE:
            self._log.error("another master has this name by now", master=self._instance.name)
            lifecycle.exit_status = EX_TEMPFAIL
            lifecycle.stop(Shutdown.IMMEDIATE, now)
        for job in self._children.lose(answer.lost, now):
            self._log.error("lease lost, killing the job", **about(job.claim))
        self._heartbeat.report_reaped(answer.reaped)
        self._timetable.hear(answer, now)
        if answer.next_expiry_us is not None:
            # Most often the lease is renewed by then. If not, this beat takes its job back in time.
            in_s = max(0.0, (answer.next_expiry_us - answer.now_us) / 1e6)
            self._duties.hasten(Duty.BEAT, now + in_s + random.uniform(0.05, 0.5))
        lifecycle.suspend(answer.is_suspended, now)
        self._commands.obey(answer.commands, answer.now_us, now)
        self._commands.stop_jobs(answer.stops, now)
        if answer.commands:
            self._duties.hasten(Duty.BEAT, now)  # the next beat says that they were obeyed

    # -- beginning and end -------------------------------------------------------------------

    def _begin(self) -> None:
        try:
            check_kernel()
            make_room(self._config.workers, self._config.max_files)
            self._reach_redis()
            self._heartbeat.register()
            with translate_errors(self._config.url):
                self._timetable.load()
        except BaseException:
            self._instance.withdraw()
            raise

    def _reach_redis(self) -> None:
        if self._embedded is not None:
            self._embedded.ensure()
            self._embedded.wait_ready(_EMBEDDED_READY_S)
        with translate_errors(self._config.url), answers_are_read():
            for warning in check_server(self._link.store.redis):
                self._log.warning("redis may lose jobs", why=warning)
            check_permissions(self._link.store.redis, self._link.store.keys)

    def _tend_embedded(self, server: EmbeddedServer) -> None:
        server.poll()
        try:
            server.ensure()
        except RqdError as error:
            self._log.error("embedded server can't be started", error=error)

    def _on_stop(self) -> None:
        self._heartbeat.stopping()
        self._timetable.is_open = False

    def _own_pids(self) -> set[int]:
        server = self._embedded.pid if self._embedded else None
        return self._autoreload.pids | ({server} if server else set())
