"""`bin/bench`: all measurements in one run on one server, in rounds that alternate who runs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import redis

from benchmarks.bench import FULL, QUICK, Bench, Effort, Group
from benchmarks.contenders.ruby import versions as ruby_versions
from benchmarks.groups import GROUPS
from benchmarks.processes import BenchmarkError
from benchmarks.report import Document, document_of, surroundings, text_report
from benchmarks.results import Results
from benchmarks.server import started_server
from rqd.exceptions import RqdError

EXIT_OK, EXIT_MISSED, EXIT_BROKEN = 0, 1, 2
_NAMES = tuple(group.name for group in GROUPS)


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints, and tells by its status whether all that is claimed holds."""
    options = _options(argv)
    effort = QUICK if options.quick else FULL
    if options.rounds is not None:
        effort = replace(effort, rounds=options.rounds)
    # So that TERM, too, ends what was started on its way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    groups = [group for group in GROUPS if group.name in options.only]
    results, around = Results(), surroundings()
    around["packages"] = ", ".join([around["packages"], *ruby_versions()])
    status = _measure(groups, effort, results, around)
    if status != EXIT_OK:
        results.remarks.append("ended early: not all was measured")
    claims = [claim.claim(results.figures) for group in groups for claim in group.claims]
    quantities = {group.name: group.quantities for group in groups}
    _tell(document_of(around, results, quantities, claims), options.json, options.plots)
    if status != EXIT_OK or results.is_incomplete:
        return status or EXIT_BROKEN
    return EXIT_MISSED if any(claim.is_kept is False for claim in claims) else EXIT_OK


def _measure(
    groups: Sequence[Group], effort: Effort, results: Results, around: dict[str, str]
) -> int:
    """Fills in what it finds, up to where it fails."""
    try:
        with started_server() as server:
            around["server"] = f"{server.version()}, TCP on loopback, nothing saved"
            Bench(server, effort, results).run(groups)
    except (BenchmarkError, RqdError, redis.RedisError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_BROKEN
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception:  # noqa: BLE001 - the interpreter's status 1 would say that a floor was missed
        traceback.print_exc()
        return EXIT_BROKEN
    return EXIT_OK


def _tell(document: Document, json_to: Path | None, plots_to: Path | None) -> None:
    print(text_report(document))
    if json_to:
        json_to.write_text(json.dumps(document, indent=1) + "\n")
    if plots_to:
        from benchmarks.plots import draw

        for path in draw(document, plots_to):
            print(f"drawn: {path}", file=sys.stderr)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument("--rounds", type=_positive, help="how often each contender runs  [3]")
    parser.add_argument("--quick", action="store_true", help="one short round, for a first look")
    parser.add_argument(
        "--only", type=_groups, default=_NAMES, metavar="A,B", help=f"of {', '.join(_NAMES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw them there, too, as SVG")
    parser.add_argument(
        "--with-ruby",
        action="store_true",
        help="install Debian's Ruby, Sidekiq and what Resque needs first, as root",
    )
    return parser.parse_args(argv)


def _groups(text: str) -> tuple[str, ...]:
    chosen = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in chosen if name not in _NAMES]:
        raise argparse.ArgumentTypeError(f"no {unknown[0]!r}: choose from {', '.join(_NAMES)}")
    return chosen


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 50:
        raise argparse.ArgumentTypeError("from 1 to 50")
    return number


if __name__ == "__main__":
    sys.exit(main())
