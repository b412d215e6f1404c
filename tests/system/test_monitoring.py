"""The dashboard, the alerts and the autoscalers ask for metrics that there are, and can be read.

A real Prometheus scrapes the real exporter, and answers each query of the dashboard.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from rqd import Queue, cron
from rqd.cli.main import cli
from rqd.client.connection import Backend
from rqd.client.metrics import read_metrics
from rqd.integrations.prometheus import CONTENT_TYPE, exposition
from rqd.store.connection import client_connection
from rqd.store.keys import Keys
from rqd.store.messages import Beat, QueueNumbers, Turn
from rqd.store.store import Store
from tests import jobs
from tests.daemons import ROOT
from tests.lacking import needs_prometheus
from tests.processes import bound_to_pytest
from tests.topology.networks import free_port
from tests.waiting import eventually

MONITORING = ROOT / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana.json").read_text())
ALERTS = yaml.safe_load((MONITORING / "alerts.yml").read_text())
LIMIT_S = 60
# What lasts longest after the grace: the kill, the last outcomes.
LAST_STEPS_S = 10
NAME = re.compile(r"\brqd_[a-z_]+\b")
HISTOGRAM_ENDS = ("_bucket", "_sum", "_count")
FIELDS = (
    *(("became finished", 40), ("became failed", 2)),
    *(("run 3", 42), ("run sum", 84_000_000), ("wait 2", 42), ("wait sum", 700_000)),
    *(("run 3 1", 42), ("run sum 1", 84_000_000), ("memory 1 1", 42), ("memory sum 1", 9_000)),
    *(("cpu sum 1", 900_000), ("cause crashed 1", 2)),
)


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def documents(file: str, kind: str) -> list[dict[str, Any]]:
    found = yaml.safe_load_all((MONITORING / file).read_text())
    return [document for document in found if document["kind"] == kind]


@pytest.fixture
def there(redis_url: str) -> Backend:
    """A namespace with a sample of every metric."""
    backend = Backend(Store(client_connection(redis_url)), redis_url)
    queue = Queue("low", connection=backend)
    for _ in range(9):
        queue.enqueue(jobs.multiply, 2, 3)
    beat(backend)
    backend.store.turn(Turn("b.1", "m", 600_000_000, (), (1,), ("low",)))
    cron.register(jobs.instant, "low", cron="0 3 * * *", name="nightly", connection=backend)
    backend.store.add_history("0", "m", QueueNumbers("low", ("shop.send",), FIELDS))
    return backend


def beat(backend: Backend) -> None:
    row: Any = {"boot": "b", "host": "web1", "queues": "low", "state": "busy", "workers": 2,
           "version": "0.1.0", "rss_bytes": 4096}  # fmt: skip
    workers: Any = {n: {"state": "idle", "host": "web1", "pid": n} for n in (1, 2)}
    backend.store.beat(Beat("m", "b", 600_000_000, 600, "", (), row, workers))


@pytest.fixture
def exporter(there: Backend) -> Iterator[str]:
    """Serves the metrics; before each scrape the counters go up. Yields host and port."""
    requests = count(1)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            numbers = QueueNumbers("low", ("shop.send",), FIELDS)
            there.store.add_history(str(next(requests)), "m", numbers)
            text = exposition(there)
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.end_headers()
            with suppress(OSError):  # Prometheus ended meanwhile
                self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(LIMIT_S)
        server.server_close()


class Prometheus:
    """A Prometheus that scrapes one exporter four times a second."""

    def __init__(self, folder: Path, exporter: str) -> None:
        config = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [
                {
                    "job_name": "rqd",
                    "honor_labels": True,
                    "static_configs": [{"targets": [exporter], "labels": {"namespace": "pods"}}],
                }
            ],
            "rule_files": [str(MONITORING / "alerts.yml")],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.address = f"127.0.0.1:{free_port()}"
        self._log = (folder / "prometheus.log").open("w+")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=bound_to_pytest(LIMIT_S),
        )

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Returns the result of a query; none while it does not serve yet."""
        assert self._process.poll() is None, self.log()
        parameters = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(
                f"http://{self.address}/api/v1/query?{parameters}", timeout=10
            ) as answer:
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it reads its data still
                return []
            raise AssertionError(f"{query}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return []
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    def log(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()


@pytest.fixture
def prometheus(tmp_path: Path, exporter: str) -> Iterator[Prometheus]:
    needs_prometheus()
    running = Prometheus(tmp_path, exporter)
    try:
        yield running
    finally:
        running.close()


def filled_in(query: str) -> str:
    """A panel's query with its variables, as Grafana fills them in for All."""
    for name, value in (("namespace", ".*"), ("queue", ".*"), ("__rate_interval", "10s")):
        query = query.replace(f"${name}", value)
    assert "$" not in query
    return query


def test_promtool_accepts_the_alerts_and_each_fires_on_its_own_trouble_only() -> None:
    needs_prometheus()
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")):
        ran = subprocess.run(
            ["promtool", *command], cwd=MONITORING, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_accepts_what_the_exporter_says(there: Backend) -> None:
    needs_prometheus()
    ran = subprocess.run(
        ["promtool", "check", "metrics"],
        input=exposition(there).decode(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    tested = (MONITORING / "alerts_test.yml").read_text()
    for rule in rules():
        assert f'alertname="{rule["alert"]}"' in tested
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["summary"]
        commands = re.findall(r"`rqd ([a-z]+)", rule["annotations"]["description"])
        assert commands, rule["alert"]
        assert set(commands) <= set(cli.list_commands(click.Context(cli))), rule["alert"]


def test_the_page_lists_every_alert_with_its_severity() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    listed = re.findall(r"^\| `(Rqd\w+)` \| (\w+) \|", page, re.M)

    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in rules()]


def test_every_metric_asked_for_is_one_that_the_exporter_has(there: Backend) -> None:
    exported = {
        metric.name + end
        for metric in read_metrics(there)
        for end in (HISTOGRAM_ENDS if metric.kind == "histogram" else ("",))
    }
    asked = {
        "grafana.json": " ".join(queries()) + json.dumps(DASHBOARD["templating"]),
        "alerts.yml": " ".join(rule["expr"] for rule in rules()),
        **{
            file: (MONITORING / file).read_text()
            for file in ("alerts_test.yml", "keda.yaml", "hpa.yaml")
        },
    }
    for file, text in asked.items():
        names = set(NAME.findall(text))
        assert names, file
        assert names <= exported, file


def test_the_dashboard_shows_every_metric(there: Backend) -> None:
    shown = {
        re.sub(r"_bucket$|_count$|_sum$", "", name) for name in NAME.findall(" ".join(queries()))
    }
    assert shown == {metric.name for metric in read_metrics(there)}


def test_each_query_of_the_dashboard_has_a_result_from_a_real_prometheus(
    prometheus: Prometheus,
) -> None:
    for query in queries():
        found = eventually(partial(prometheus.ask, filled_in(query)), 20, query)
        assert any(one["value"][1] not in ("NaN", "+Inf") for one in found), query
    # honor_labels: the target's own label `namespace` does not displace the exporter's.
    (up,) = prometheus.ask("rqd_redis_up")
    assert up["metric"]["namespace"] == "rqd"


def test_panels_have_ids_titles_descriptions_and_room_of_their_own() -> None:
    taken = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(taken) == len(set(taken))
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in own) < 24, panel["title"]
        assert not own & cells, panel["title"]
        cells |= own
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == [
        *("datasource", "namespace", "queue")
    ]


@pytest.mark.parametrize("file", ["keda.yaml", "hpa.yaml"])
def test_a_pod_has_longer_than_the_grace_to_stop(file: str) -> None:
    (deployment,) = documents(file, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    settings = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}

    assert pod["terminationGracePeriodSeconds"] >= int(settings["RQD_GRACE"]) + LAST_STEPS_S
    # An autoscaler and a fixed number would undo each other's work.
    assert "replicas" not in deployment["spec"]


def test_autoscalers_divide_the_workers_wanted_by_those_of_a_pod() -> None:
    for file in ("keda.yaml", "hpa.yaml"):
        (deployment,) = documents(file, "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        (workers,) = [one["value"] for one in container["env"] if one["name"] == "RQD_WORKERS"]
        if file == "keda.yaml":
            (scaled,) = documents(file, "ScaledObject")
            (trigger,) = scaled["spec"]["triggers"]
            kind, divisor = trigger["metricType"], trigger["metadata"]["threshold"]
        else:
            (scaled,) = documents(file, "HorizontalPodAutoscaler")
            (metric,) = scaled["spec"]["metrics"]
            kind = metric["external"]["target"]["type"]
            divisor = metric["external"]["target"]["averageValue"]
        assert (kind, divisor) == ("AverageValue", workers)
        assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_kedas_query_has_one_number(prometheus: Prometheus) -> None:
    (scaled,) = documents("keda.yaml", "ScaledObject")
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    (found,) = eventually(lambda: prometheus.ask(query), 20)
    assert float(found["value"][1]) >= 1


def test_kedas_lists_are_the_ready_sets_of_queues(there: Backend) -> None:
    (scaled,) = documents("keda-redis.yaml", "ScaledObject")
    lists = [trigger["metadata"]["listName"] for trigger in scaled["spec"]["triggers"]]

    assert lists == [Keys().ready("high"), Keys().ready("low")]
    redis: Any = there.store.redis
    assert redis.zcard(lists[1]) == 8
