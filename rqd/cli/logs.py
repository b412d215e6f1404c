"""`rqd logs ID`: what a job printed, or prints."""

from __future__ import annotations

import sys

import click

from rqd.cli.completing import complete_jobs
from rqd.cli.grammar import Command
from rqd.cli.options import backend, redis_options
from rqd.cli.output import plain
from rqd.cli.suggest import whole_id
from rqd.job import Job, JobStatus
from rqd.store.following import Follower, as_text

# A master answers within some milliseconds, or it is busy with something else.
_MASTER_S = 2.0


@click.command(name="logs", cls=Command)
@redis_options
@click.option("--follow", "-f", is_flag=True, help="Go on until the job's end.")
@click.argument("job_id", metavar="ID", shell_complete=complete_jobs)
def command(url: str | None, namespace: str | None, follow: bool, job_id: str) -> None:
    """Print what a job wrote to stdout and stderr.

    That is the last 64 KiB of its latest attempt. Of a running job, what it has written so far;
    with -f all that comes, over all its attempts, until its end.
    """
    with backend(url, namespace, signs=True) as there:
        job_id = whole_id(job_id, there.views, only_to_look=True)
        job = Job.fetch(job_id, there)
        follower = Follower(there.store, there.views, job_id, there.keyring)
        if follow:
            pieces = follower.pieces()
        elif job.get_status(refresh=False) is JobStatus.STARTED:
            pieces = follower.so_far(_MASTER_S)
        else:
            pieces = follower.kept()
        printed = False
        for text in as_text(pieces):
            printed = printed or bool(text)
            click.echo(plain(text), nl=False)
        if not printed and sys.stdout.isatty():
            click.echo(f"job {job_id} has printed nothing that is kept", err=True)
