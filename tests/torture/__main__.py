"""bin/torture: a campaign, its verdict and its table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.torture.campaign import Settings, run
from tests.torture.faults import GROUPS
from tests.torture.report import as_json, as_text, report_on

_EX_USAGE = 64


def main() -> int:
    """Runs what the arguments say; 0 if the campaign is valid, 1 if not."""
    options = _parser().parse_args()
    groups = GROUPS if options.faults == "all" else tuple(options.faults.split(","))
    if wrong := [group for group in groups if group not in GROUPS]:
        print(f"torture: no group {wrong[0]!r}: write some of {','.join(GROUPS)}, or all")
        return _EX_USAGE
    seed = options.seed if options.seed is not None else int(time.time())
    out = Path(options.out or tempfile.mkdtemp(prefix="rqd-torture-")).absolute()
    if any(out.glob("*")):
        print(f"torture: --out {out} is not empty: name a new folder")
        return _EX_USAGE
    print(f"torture: seed {seed}, histories in {out}", file=sys.stderr, flush=True)
    system = options.peer or "rqd"
    run(Settings(seed, groups, options.minutes, options.jobs_rate, out, system, options.gaps))
    report = report_on(out)
    print(json.dumps(as_json(report)) if options.json else as_text(report))
    return 0 if report.verdict.is_valid else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("bin/torture", description=__doc__)
    parser.add_argument("--seed", type=int, help="what to repeat a campaign by  [default: new]")
    parser.add_argument("--faults", default="all", help=f"all, or some of {','.join(GROUPS)}")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--jobs-rate", type=float, default=60.0, help="jobs a second")
    parser.add_argument("--gaps", type=float, default=1.0, help="time between faults, by a factor")
    parser.add_argument("--out", help="where the histories go: a new folder")
    parser.add_argument("--peer", choices=("rq",), help="the same against another job queue")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
