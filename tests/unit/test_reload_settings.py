"""Settings of a running master, read again."""

from pathlib import Path

import click
import pytest

from rqd.cli.settings import read_again
from rqd.cli.start import command as start
from rqd.cli.start import config_of
from rqd.daemon.config import Config, changed, merge_reloadable
from rqd.model.errors import ConfigurationError


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> click.Context:
    """As at a start in this folder, with its file, an option and a variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RQD_JOBS_PER_CHILD", "5")
    Path("rqd.toml").write_text('workers = 2\ngrace = 7\njobs-per-child = 1\nqueues = "old"\n')
    return start.make_context("start", ["--queues", "high"])


def again(context: click.Context) -> Config:
    return config_of(read_again(context), None)


def test_the_file_is_read_anew_below_the_options_and_the_environment(
    context: click.Context,
) -> None:
    before = config_of(context.params, None)
    assert again(context) == before
    Path("rqd.toml").write_text('workers = 3\njobs-per-child = 9\nqueues = "new"\n')

    now = again(context)

    assert (now.workers, now.grace_s, now.jobs_per_child, now.queues) == (3, 30, 5, ("high",))
    assert changed(before, now) == ["workers", "grace"]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("workers = nine\n", "is no TOML"),
        ("workers = -1\n", "--workers -1: write 1 to 1000"),
        ('workers = "many"\n', "rqd.toml: workers: 'many' is not a valid"),
        ("worker = 3\n", "there is no setting 'worker'"),
        (None, r"rqd.toml is gone"),
    ],
)
def test_a_broken_file_is_one_clear_error(
    context: click.Context, broken: str | None, told: str
) -> None:
    Path("rqd.toml").unlink()
    if broken is not None:
        Path("rqd.toml").write_text(broken)
    with pytest.raises(ConfigurationError, match=told):
        again(context)


def test_what_says_which_master_it_is_stays_and_is_named() -> None:
    old = Config(url="redis://one", name="first", max_jobs=3)
    new = Config(url="redis://two", name="second", workers=9, weights=(), user="mail")

    ours, for_a_start = merge_reloadable(old, new)

    assert ours == Config(url="redis://one", name="first", max_jobs=3, workers=9)
    assert for_a_start == ["url", "max-jobs", "name", "user"]
