"""An application of BENCH_APP_MB: as many small objects as it takes, as modules and caches are."""

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * _PAGE


_until = _resident_bytes() + int(os.environ.get("BENCH_APP_MB", "60")) * 1_000_000
rows: list[dict[str, object]] = []
while _resident_bytes() < _until:
    numbers = range(len(rows), len(rows) + 1000)
    rows += [{"id": number, "name": f"row {number}"} for number in numbers]
