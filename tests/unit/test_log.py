"""The daemon's log: what a record looks like, what is kept out of it, and that nobody waits."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from

import pytest

from rqd.daemon.config import LogSettings
from rqd.daemon.log.formats import Format, JournalFormat, JsonFormat, TextFormat
from rqd.daemon.log.log import Log, open_log
from rqd.daemon.log.sinks import DescriptorSink, JournalSink, is_journal
from rqd.exceptions import ConfigurationError
from rqd.model.outcome import AskedAgain, Crashed, Raised

SECRET = "redis://user:geheim@h:1/0"
JOB = {"job_id": "a1", "func": "shop.pay", "queue": "default", "attempt": 2}


class Kept:
    """A sink that keeps the records."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.dropped_bytes = 0

    def write(self, record: bytes) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


def written(form: Format, settings: LogSettings | None = None) -> tuple[Log, Kept]:
    sink = Kept()
    return Log(sink, form, settings), sink


def fields_of(datagram: bytes) -> dict[str, bytes]:
    """As the journal reads it."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = unpack_from("<Q", rest)
            value, datagram = rest[8 : 8 + size], rest[8 + size + 1 :]
            assert rest[8 + size : 8 + size + 1] == b"\n"
        else:
            datagram = rest
        assert re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", name)
        found[name.decode()] = value
    return found


# -- text ----------------------------------------------------------------------------------------


def test_a_line_of_text_has_time_level_event_and_quoted_fields() -> None:
    log, sink = written(TextFormat())
    log.warning("job retried", **JOB, cause="raised ValueError: x", in_s=0.5, nothing=None, e="")
    assert re.fullmatch(
        rb"\d\d:\d\d:\d\d WARNING job retried job_id=a1 func=shop.pay queue=default attempt=2"
        rb" cause='raised ValueError: x' in_s=0.5\n",
        sink.records[0],
    )


def test_values_read_as_they_are_written() -> None:
    log, sink = written(TextFormat(""))
    log.error("e", queues=("a", "b"), big=1234567.8, whole=30.0, is_so=True, odd="\x1b[2J", u="ü")
    assert sink.records == [
        "ERROR e queues=a,b big=1234567.8 whole=30 is_so=yes odd='\\x1b[2J' u=ü\n".encode()
    ]


def test_a_traceback_stands_below_its_event() -> None:
    log, sink = written(TextFormat(""))
    log.error("job failed", job_id="a1", traceback="Traceback:\n  line\nValueError: 1\n")
    assert sink.records == [
        b"ERROR job failed job_id=a1\n    Traceback:\n      line\n    ValueError: 1\n"
    ]


def test_levels_are_coloured_where_that_is_asked_for() -> None:
    log, sink = written(TextFormat("", colours=True))
    log.info("i")
    log.error("e")
    assert sink.records == [b"INFO i\n", b"\x1b[31mERROR\x1b[0m e\n"]


@pytest.mark.parametrize(
    ("level", "written_levels"),
    [
        ("debug", ["d", "i", "w", "e"]),
        ("info", ["i", "w", "e"]),
        ("warning", ["w", "e"]),
        ("error", ["e"]),
    ],
)
def test_what_is_below_the_level_is_not_written(level: str, written_levels: list[str]) -> None:
    log, sink = written(JsonFormat(), LogSettings(level=level))
    for tell, text in ((log.debug, "d"), (log.info, "i"), (log.warning, "w"), (log.error, "e")):
        tell(text)
    assert [json.loads(record)["event"] for record in sink.records] == written_levels


# -- JSON ----------------------------------------------------------------------------------------


def test_a_line_of_json_has_typed_fields_and_the_time_in_utc() -> None:
    log, sink = written(JsonFormat())
    log.name_master("m1")
    log.info("job finished", **JOB, run_ms=1.5, is_so=True, queues=("a",), error=OSError("no"))
    (line,) = sink.records
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    record = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    told = {"level": "info", "event": "job finished", "master": "m1", **JOB}
    assert record == {**told, "run_ms": 1.5, "is_so": True, "queues": ["a"], "error": "no"}


def test_what_a_job_prints_is_an_object_a_line_in_json() -> None:
    log, sink = written(JsonFormat())
    log.output(b'one\n"two"\n\nbad \xff\n', **JOB, worker=1)
    lines = [json.loads(line) for line in sink.records[0].splitlines()]
    assert [line["line"] for line in lines] == ["one", '"two"', "", "bad \N{REPLACEMENT CHARACTER}"]
    assert {(line["event"], line["job_id"], line["level"]) for line in lines} == {
        ("job output", "a1", "info")
    }


# -- what jobs say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job_output", "printed"),
    [("plain", [b"one\ntwo\n"]), ("prefix", [b"a1 | one\na1 | two\n"]), ("none", [])],
)
def test_what_a_job_prints_is_written_as_asked(job_output: str, printed: list[bytes]) -> None:
    form = TextFormat(prefixes=job_output == "prefix")
    log, sink = written(form, LogSettings(job_output=job_output))
    log.output(b"one\ntwo\n", **JOB, worker=1)
    assert sink.records == printed


def test_what_no_job_printed_has_the_process_in_its_prefix() -> None:
    log, sink = written(TextFormat(prefixes=True), LogSettings(job_output="prefix"))
    log.output(b"one\n", worker=2)
    log.output(b"two\n", zygote=77)
    assert sink.records == [b"worker 2 | one\n", b"zygote 77 | two\n"]


def test_without_their_output_jobs_say_nothing_by_their_exceptions_either() -> None:
    log, _ = written(TextFormat(), LogSettings(job_output="none"))
    raised = Raised("builtins.ValueError", "card 4711", "Traceback ... card 4711")
    assert log.cause(raised) == "raised ValueError"
    assert log.traceback(raised) == ""
    assert log.cause(AskedAgain(2, message="card 4711")) == "asked to run again, 2 times at most"
    assert log.cause(Crashed(signal=9)) == "crashed: SIGKILL"
    plain, _ = written(TextFormat())
    assert plain.cause(raised) == "raised ValueError: card 4711"
    assert plain.traceback(raised) == raised.traceback


@pytest.mark.parametrize("form", [TextFormat(), JsonFormat(), JournalFormat()])
def test_no_password_of_a_url_is_written(form: Format) -> None:
    log, sink = written(form)
    log.error("e", error=f"at {SECRET} or <{SECRET}>", traceback=f"x\n'{SECRET}'", urls=[SECRET])
    assert b"geheim" not in sink.records[0]
    assert sink.records[0].count(b"user:***@h:1/0") >= 4


def test_long_texts_are_cut_at_their_end_and_tracebacks_at_their_beginning() -> None:
    log, sink = written(JsonFormat())
    log.error("e", cause="x" * 100_000, traceback="y" * 100_000 + "z")
    record = json.loads(sink.records[0])
    assert record["cause"] == "x" * 8192 + "..."
    assert (len(record["traceback"]), record["traceback"][-1]) == (65536, "z")


# -- the journal ----------------------------------------------------------------------------------


@pytest.fixture
def journal() -> Iterator[tuple[str, socket.socket]]:
    """A socket as systemd's journal has it, and its path."""
    # /tmp and not tmp_path: a unix socket's path is limited to 108 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="rqd-", dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind(f"{folder}/socket")
        receiver.setblocking(False)
        yield f"{folder}/socket", receiver


def test_the_journal_gets_message_priority_and_fields(journal: tuple[str, socket.socket]) -> None:
    path, receiver = journal
    sink = JournalSink(path)
    log = Log(sink, JournalFormat())
    log.name_master("m1")
    log.error("job failed", **JOB, pid=7, traceback="Traceback:\nValueError")
    assert fields_of(receiver.recv(65536)) == {
        "MESSAGE": b"job failed job_id=a1 func=shop.pay queue=default attempt=2 pid=7\n"
        b"    Traceback:\n    ValueError",
        "PRIORITY": b"3",
        "SYSLOG_IDENTIFIER": b"rqd",
        "RQD_EVENT": b"job failed",
        "RQD_MASTER": b"m1",
        "RQD_JOB_ID": b"a1",
        "RQD_FUNC": b"shop.pay",
        "RQD_QUEUE": b"default",
        "RQD_ATTEMPT": b"2",
        "RQD_PID": b"7",
    }
    log.output(b"one\ntwo\n", **JOB, worker=1)
    told = fields_of(receiver.recv(65536))
    assert (told["MESSAGE"], told["RQD_JOB_ID"], told["PRIORITY"]) == (b"one\ntwo", b"a1", b"6")
    sink.close()


def test_no_field_of_anybodys_can_make_another_in_the_journal() -> None:
    log, sink = written(JournalFormat())
    log.info("e", func="a\nMESSAGE=forged\nPRIORITY=0")
    assert fields_of(sink.records[0])["MESSAGE"].startswith(b"e func='a\\nMESSAGE=")
    assert fields_of(sink.records[0])["RQD_FUNC"] == b"a\nMESSAGE=forged\nPRIORITY=0"


def test_what_no_datagram_holds_comes_to_the_journal_as_a_sealed_file(
    journal: tuple[str, socket.socket],
) -> None:
    path, receiver = journal
    record = b"MESSAGE=" + b"x" * 20_000_000 + b"\n"
    sink = JournalSink(path)
    sink.write(record)
    data, fds, _, _ = socket.recv_fds(receiver, 10, 1)
    assert (data, len(fds), sink.dropped_bytes) == (b"", 1, 0)
    with os.fdopen(fds[0], "rb") as file:
        with pytest.raises(PermissionError):
            os.ftruncate(file.fileno(), 0)
        file.seek(0)
        assert file.read() == record
    sink.close()


def test_a_journal_that_does_not_read_holds_up_nobody_and_what_is_lost_is_said(
    journal: tuple[str, socket.socket],
) -> None:
    path, receiver = journal
    sink = JournalSink(path)
    log = Log(sink, JournalFormat())
    while not sink.dropped_bytes:
        log.info("e")
    lost_bytes = sink.dropped_bytes
    while True:
        try:
            receiver.recv(65536)
        except BlockingIOError:
            break
    log.info("after")
    told = fields_of(receiver.recv(65536))
    assert told["RQD_EVENT"] == b"log was not read, a part is lost"
    assert int(told["RQD_LOST_BYTES"]) == lost_bytes
    assert fields_of(receiver.recv(65536))["RQD_EVENT"] == b"after"
    assert sink.dropped_bytes == 0
    sink.close()


def test_a_journal_that_is_gone_and_comes_back_is_found_again(
    journal: tuple[str, socket.socket],
) -> None:
    path, receiver = journal
    sink = JournalSink(path)
    receiver.close()
    sink.write(b"MESSAGE=lost\n")
    os.unlink(path)
    sink.write(b"MESSAGE=lost\n")
    assert sink.dropped_bytes == 26
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(path)
        again.setblocking(False)
        sink.write(b"MESSAGE=here\n")
        assert again.recv(100) == b"MESSAGE=here\n"
    sink.close()


def test_a_descriptor_is_the_journals_only_if_it_is_the_one_systemd_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: tuple[str, socket.socket]
) -> None:
    monkeypatch.setattr("rqd.daemon.log.sinks.JOURNAL_SOCKET", journal[0])
    with (tmp_path / "stream").open("w") as stream, (tmp_path / "log").open("w") as other:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert is_journal(stream.fileno())
        assert not is_journal(other.fileno())
        monkeypatch.setattr("rqd.daemon.log.sinks.JOURNAL_SOCKET", str(tmp_path / "none"))
        assert not is_journal(stream.fileno())


# -- readers that do not read ---------------------------------------------------------------------


def test_a_log_nobody_reads_never_blocks() -> None:
    read, write = os.pipe()
    sink = DescriptorSink(write)
    line = b"x" * 999 + b"\n"
    for _ in range(200):  # a pipe holds 64 KiB
        sink.write(line)
    assert sink.dropped_bytes >= 100_000
    os.set_blocking(read, False)
    assert len(os.read(read, 1_000_000)) + sink.dropped_bytes == 200_000
    os.close(read)
    sink.write(line)  # and one whose reader is gone does not raise
    os.close(write)


def test_a_terminal_nobody_reads_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, terminal = os.openpty()
    monkeypatch.setattr("rqd.daemon.log.log._STDERR", terminal)
    log = open_log(LogSettings(format="text"))

    def give_up(_signum: int, _frame: object) -> None:
        pytest.fail("the log waits for its reader")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(10)
    try:
        for _ in range(1000):
            log.output(b"x" * 700 + b"\n")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    os.set_blocking(reader, False)
    assert os.read(reader, 100).startswith(b"xxx")
    assert os.get_blocking(terminal), "others have it, too"
    os.close(reader)
    os.close(terminal)
    log.info("one that is gone does not raise")


def test_after_a_line_that_was_cut_the_next_begins_on_its_own() -> None:
    read, write = os.pipe()
    sink = DescriptorSink(write)
    log = Log(sink, TextFormat(""))
    log.output(b"x" * 100_000 + b"\n", worker=1)
    lost_bytes = sink.dropped_bytes
    assert lost_bytes > 0
    os.read(read, 100_000)
    log.info("after")
    assert os.read(read, 1000).splitlines() == [
        b"",
        b"WARNING log was not read, a part is lost lost_bytes=%d" % lost_bytes,
        b"INFO after",
    ]
    os.close(read)
    os.close(write)


def test_what_a_full_disk_took_is_told_and_cut_off_though_the_file_is_opened_anew_meanwhile(
    tmp_path: Path,
) -> None:
    file = tmp_path / "log"
    log = open_log(LogSettings(file=str(file), format="text"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        log.output(b"x" * 600 + b"\n", worker=1)
        log.reopen()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    log.info("after")
    first, second, third = file.read_text().splitlines()
    assert first == "x" * 500
    assert second.endswith(" WARNING log was not read, a part is lost lost_bytes=101")
    assert third.endswith(" INFO after")


# -- files ----------------------------------------------------------------------------------------


def test_a_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "rqd.log"
    log = open_log(LogSettings(file=str(path)))
    log.info("before")
    path.rename(tmp_path / "rqd.log.1")
    log.info("moved")
    log.reopen()
    log.info("after")
    old = [json.loads(line)["event"] for line in (tmp_path / "rqd.log.1").read_text().splitlines()]
    assert (old, json.loads(path.read_text())["event"]) == (["before", "moved"], "after")
    assert path.stat().st_mode & 0o137 == 0


def test_a_file_that_cannot_be_opened_anew_leaves_the_old_one_with_a_warning(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rqd.log"
    log = open_log(LogSettings(file=str(path), format="text"))
    path.rename(tmp_path / "rqd.log.1")
    path.mkdir()
    log.reopen(LogSettings(file=str(path), level="error"))
    log.info("after")
    first, second = (tmp_path / "rqd.log.1").read_text().splitlines()
    assert "WARNING log can't be opened anew, the old one serves on error=" in first
    assert "Is a directory" in first
    assert second.endswith("INFO after")


def test_new_settings_hold_from_a_reopening_on(tmp_path: Path) -> None:
    log = open_log(LogSettings(file=str(tmp_path / "one"), format="text", level="error"))
    log.info("e")
    log.reopen(LogSettings(file=str(tmp_path / "two"), format="json"))
    log.info("e")
    assert (tmp_path / "one").read_text() == ""
    assert json.loads((tmp_path / "two").read_text())["event"] == "e"


def test_a_pipe_nobody_reads_is_no_log_file_and_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigurationError, match="can't be opened: No such device"):
        open_log(LogSettings(file=str(tmp_path / "fifo")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"format": "xml"}, "--log-format xml: write auto, text, json or journal"),
        ({"level": "loud"}, "--log-level loud: write debug, info, warning or error"),
        ({"job_output": "all"}, "--job-output all: write plain, prefix or none"),
        ({"format": "journal", "file": "x"}, "leave --log-file out"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        LogSettings(**given)


# -- which format ----------------------------------------------------------------------------------


def test_auto_is_text_on_a_terminal_with_colours_unless_they_are_unwanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, terminal = os.openpty()
    monkeypatch.setattr("rqd.daemon.log.log._STDERR", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    open_log(LogSettings()).error("e")
    assert re.fullmatch(rb"\d\d:\d\d:\d\d \x1b\[31mERROR\x1b\[0m e\r\n", os.read(reader, 100))
    monkeypatch.setenv("NO_COLOR", "1")
    open_log(LogSettings()).error("e")
    assert re.fullmatch(rb"\d\d:\d\d:\d\d ERROR e\r\n", os.read(reader, 100))
    os.close(reader)
    os.close(terminal)


def test_auto_is_records_where_the_journal_reads_and_json_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: tuple[str, socket.socket]
) -> None:
    path, receiver = journal
    monkeypatch.setattr("rqd.daemon.log.sinks.JOURNAL_SOCKET", path)
    with (tmp_path / "stderr").open("wb") as stderr:
        monkeypatch.setattr("rqd.daemon.log.log._STDERR", stderr.fileno())
        open_log(LogSettings()).info("in json")
        open_log(LogSettings(format="text")).info("in text")
        found = os.fstat(stderr.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        log = open_log(LogSettings())
        log.info("in the journal")
        log.reopen(LogSettings(format="text"))
        log.info("without a time")
    first, second, third = (tmp_path / "stderr").read_text().splitlines()
    assert json.loads(first)["event"] == "in json"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO in text", second)
    assert third == "INFO without a time"
    assert fields_of(receiver.recv(65536))["MESSAGE"] == b"in the journal"


def test_the_journal_must_be_there_if_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rqd.daemon.log.sinks.JOURNAL_SOCKET", "/nowhere")
    with pytest.raises(ConfigurationError, match="there is no journal at /nowhere"):
        open_log(LogSettings(format="journal"))
