"""Settings: what overrules what, and what is refused."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from rqd.cli.main import cli
from rqd.cli.settings import key_of, options_of, variable_of
from rqd.cli.start import command as start
from tests.cli.running import ROOT, rqd

EX_USAGE = 64


def config(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, object]:
    ran = rqd("config", "--json", *arguments, env=env, folder=folder)
    assert ran.status == 0, ran
    return {row["setting"]: (row["value"], row["from"]) for row in json.loads(ran.out)}


def test_a_flag_overrules_the_environment_which_overrules_the_file(tmp_path: Path) -> None:
    (tmp_path / "rqd.toml").write_text(
        'queues = ["high", "low"]\nworkers = 8\njobs_per_child = 2\ngrace = "5m"\nburst = true\n'
    )
    env = {"RQD_WORKERS": "6", "RQD_JOBS_PER_CHILD": "3"}
    found = config(tmp_path, "--workers", "1", env=env)
    assert found["queues"] == ("high,low", "rqd.toml")
    assert found["grace"] == ("5m", "rqd.toml")
    assert found["burst"] == (True, "rqd.toml")
    assert found["jobs-per-child"] == (3, "RQD_JOBS_PER_CHILD")
    assert found["workers"] == (1, "--workers")
    assert found["payload-limit"] == ("64M", "default")


def test_settings_may_stand_in_pyproject_toml(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[tool.rqd]\npreload = ["shop.tasks", "shop.mail"]\n')
    assert config(tmp_path)["preload"] == (["shop.tasks", "shop.mail"], "pyproject.toml")
    file.write_text("[tool.other]\nworkers = 1\n")
    assert config(tmp_path)["workers"] == (4, "default")


def test_a_broken_pyproject_toml_is_refused_if_it_has_settings(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text("[tool.rqd]\nrequire-signed = true\n<<<<<<< HEAD\n")
    ran = rqd("config", folder=tmp_path)
    assert ran.status == EX_USAGE
    assert ran.err.startswith("rqd: pyproject.toml is no TOML: ")
    file.write_text("[tool.other]\n<<<<<<< HEAD\n")
    assert config(tmp_path)["workers"] == (4, "default")


def test_every_command_takes_url_and_namespace_from_the_file(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "rqd.toml").write_text(f'url = "{redis_url}"\nnamespace = "shop"\nworkers = 2\n')
    ran = rqd("enqueue", "builtins.len", "abc", folder=tmp_path)
    assert ran.status == 0, ran
    other = {"RQD_CONFIG": str(tmp_path / "rqd.toml")}
    assert ran.out.strip() in rqd("job", ran.out.strip(), env=other).out
    assert rqd("job", ran.out.strip(), "--namespace", "rqd", env=other).status != 0


def test_the_daemons_other_settings_are_no_options_of_other_commands(
    tmp_path: Path, redis_url: str
) -> None:
    (tmp_path / "rqd.toml").write_text(f'url = "{redis_url}"\nquiet = true\n')
    ran = rqd("enqueue", "--job-id", "a1", "builtins.len", "abc", folder=tmp_path)
    assert (ran.status, ran.out) == (0, "a1\n"), ran
    assert config(tmp_path)["quiet"] == (True, "rqd.toml")


def test_no_password_is_shown(tmp_path: Path) -> None:
    (tmp_path / "rqd.toml").write_text('url = "redis://user:geheim@localhost:1"\n')
    ran = rqd("config", folder=tmp_path)
    assert ran.status == 0
    assert "user:***@localhost" in ran.out
    assert "geheim" not in ran.out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("wrokers = 1", "rqd.toml: there is no setting 'wrokers': did you mean workers?"),
        ("colour = 1", "there is no setting 'colour': there are allow, "),
        ("burst = 1", "rqd.toml: burst = 1: write true or false"),
        ("workers = true", "rqd.toml: workers = True: write a text, a number or a list"),
        ("workers = 'x'", "rqd.toml: workers: 'x' is not a valid integer"),
        ("workers = 0", "rqd.toml: workers 0: write 1 to"),
        ("queues = 'a b'", "rqd.toml: queues: queue name 'a b' must be"),
        ("url = 'http://h'", "rqd.toml: URL 'http://h' can't be read"),
        ("cron = '/no/such'", "rqd.toml: cron /no/such: No such file"),
        ("workers = ", "rqd.toml is no TOML"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "rqd.toml").write_text(content + "\n")
    ran = rqd("start", folder=tmp_path)
    assert (ran.status, ran.out, len(ran.err.splitlines())) == (EX_USAGE, "", 1), ran
    assert told in ran.err


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    ran = rqd("start", "--config", "nowhere.toml", folder=tmp_path)
    assert (ran.status, ran.err) == (
        EX_USAGE,
        "rqd: nowhere.toml can't be read: No such file or directory\n",
    )


def test_the_documentation_lists_each_setting_under_its_names() -> None:
    listed = re.findall(
        r"^\| `([\w-]+)` \| `(RQD_\w+)` \|", (ROOT / "docs/settings.md").read_text(), re.M
    )
    assert listed == [(key_of(option), variable_of(option)) for option in options_of(start)]


@pytest.mark.parametrize(
    ("said", "is_coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_tables_have_colours_on_a_terminal_unless_they_are_unwanted(
    said: dict[str, str], is_coloured: bool
) -> None:
    env = {"NO_COLOR": None, "TERM": "xterm", **said}
    shown = CliRunner(env=env).invoke(cli, ["config"], color=True)  # as on a terminal
    assert ("\x1b[" in shown.output) == is_coloured
