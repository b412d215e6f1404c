"""A job's terms: settings that few jobs use, such as limits, in a single field of its hash.

Jobs without terms pay nothing for them. The field is JSON, which the scripts read too, and the
job's signature binds it as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def dump_terms(terms: Mapping[str, Any]) -> str:
    """Returns the terms as the text of the job's hash; empty for no terms."""
    if not terms:
        return ""
    import json  # noqa: PLC0415 - jobs without terms, and the zygote, do without it

    return json.dumps(terms, separators=(",", ":"), sort_keys=True)


def read_tally(text: str) -> dict[str, int]:
    """Reads the counts in a job's hash by name; leaves out values that are no counts."""
    tally = read_terms(text)
    return {name: count for name, count in tally.items() if type(count) is int and count >= 0}


def read_terms(text: str) -> dict[str, Any]:
    """Reads the terms from the text; empty if damaged, as a master that reads it must go on."""
    if not text:
        return {}
    import json  # noqa: PLC0415 - as in dump_terms

    try:
        terms = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return terms if isinstance(terms, dict) else {}


def signed_id(job_id: str, terms: str) -> str:
    """Returns the id that a job's signature binds: its own, without a script's suffix.

    A callback's id is its producer's choice; for a further end of the same job it gets a suffix.
    The runs of a cron entry share a signature, under the entry's name.
    """
    if '"cron"' in terms:
        name = read_terms(terms).get("cron")
        is_run = isinstance(name, str) and job_id.startswith(f"cron-{name}-")
        return f"cron:{name}" if is_run else job_id
    if '"callback"' not in terms:
        return job_id
    about = read_terms(terms).get("callback")
    chosen = about.get("id") if isinstance(about, dict) else None
    return chosen if isinstance(chosen, str) and job_id.startswith(f"{chosen}-") else job_id
