"""What the daemon preloads, and what it calls around each job: --middleware worker.in_app."""

from app import create_app

app = create_app()


def in_app(_job, call):
    """Runs a job in a context of its own, as a request is run."""
    with app.app_context():
        return call()
