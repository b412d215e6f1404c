"""The recipe for FastAPI, beyond what it has in common with the recipe for Flask."""

from __future__ import annotations

from pathlib import Path

from tests.examples.conftest import Serve

OPEN = """
import os

del os.environ["SHOP_PASSWORD"]
from app import create_app

app = create_app()
"""


def test_without_a_password_there_is_no_dashboard(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "open.py").write_text(OPEN)
    site = serve("fastapi", target="open:app")

    assert site.client.get("/rqd/").status_code == 404
    assert site.client.get("/jobs/none").status_code == 404


def test_its_schema_has_its_routes_and_none_of_the_dashboards(serve: Serve) -> None:
    schema = serve("fastapi").client.get("/openapi.json").json()

    assert [*schema["paths"]] == ["/orders", "/jobs/{job_id}", "/jobs/{job_id}/events"]
    stream = schema["paths"]["/jobs/{job_id}/events"]["get"]["responses"]["200"]
    assert [*stream["content"]] == ["text/event-stream"]
