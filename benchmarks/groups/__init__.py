"""What `--only` chooses from, in the order it is run."""

from benchmarks.bench import Group
from benchmarks.groups.commands import Commands
from benchmarks.groups.enqueueing import Enqueue
from benchmarks.groups.fork import Fork
from benchmarks.groups.latency import Latency
from benchmarks.groups.reuse import Reuse

GROUPS: tuple[Group, ...] = (Fork(), Reuse(), Enqueue(), Latency(), Commands())
