"""What `--only` chooses from, in the order it is run."""

from benchmarks.bench import Group
from benchmarks.groups.commands import Commands
from benchmarks.groups.enqueueing import Enqueue
from benchmarks.groups.fork import Fork
from benchmarks.groups.idle import Idle
from benchmarks.groups.jobs import Jobs
from benchmarks.groups.latency import Latency
from benchmarks.groups.limits import Limits
from benchmarks.groups.memory import Memory
from benchmarks.groups.preload import Preload
from benchmarks.groups.reuse import Reuse
from benchmarks.groups.scaling import Scaling
from benchmarks.groups.startup import Startup

GROUPS: tuple[Group, ...] = (
    Limits(),
    Fork(),
    Preload(),
    Reuse(),
    Jobs(),
    Enqueue(),
    Latency(),
    Memory(),
    Commands(),
    Idle(),
    Scaling(),
    Startup(),
)
