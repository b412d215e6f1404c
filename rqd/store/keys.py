"""All keys of a namespace: their names, types, fields and times to live.

All keys of a namespace carry the same hash tag, `{rqd}:`, and so lie in the same slot of a Cluster.
The Lua scripts compute the same names from the prefix; docs/architecture.md shows the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from rqd.model.names import check_name

# The member for a pause of the whole namespace: no queue's name has braces.
ALL_QUEUES = "{all}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a namespace."""

    namespace: str = "rqd"

    def __post_init__(self) -> None:
        check_name(self.namespace, "namespace")

    @property
    def prefix(self) -> str:
        """The start of every key."""
        return f"{{{self.namespace}}}:"

    @property
    def queues(self) -> str:
        """SET of queue names; made by the first enqueue, stays. The scripts' declared key."""
        return f"{self.prefix}queues"

    @property
    def masters(self) -> str:
        """ZSET of master names by last heartbeat (us)."""
        return f"{self.prefix}masters"

    @property
    def leases(self) -> str:
        """ZSET of started jobs by the end of their lease (us)."""
        return f"{self.prefix}leases"

    @property
    def scheduled(self) -> str:
        """ZSET of jobs by due time (us), over all queues."""
        return f"{self.prefix}scheduled"

    @property
    def paused(self) -> str:
        """ZSET of paused queues by the end of the pause (us, or inf); {all} if all are."""
        return f"{self.prefix}paused"

    @property
    def crons(self) -> str:
        """ZSET of cron entries by their due time (us); inf for paused entries."""
        return f"{self.prefix}cron"

    def cron(self, name: str) -> str:
        """HASH: a cron entry, with the fields of its runs' jobs; stays until it is removed."""
        return f"{self.prefix}cron:{name}"

    def ready(self, queue: str) -> str:
        """ZSET of ids that can be claimed now, by priority and place."""
        return f"{self.prefix}queue:{queue}"

    def index(self, queue: str, name: str) -> str:
        """ZSET of ids, with a score by the name of the index.

        `started` by claim time, `scheduled` by due time, `limited` by place, `deferred` by the time
        of their enqueue; `finished`, `failed` and `canceled` by the end of the record (us, or inf).
        """
        return f"{self.prefix}queue:{queue}:{name}"

    def by_end(self, queue: str, index: str) -> str:
        """ZSET of ids of ended jobs by their end (us); `index` is finished, failed or canceled."""
        return f"{self.prefix}by-end:{index}:{queue}"

    def job(self, job_id: str) -> str:
        """HASH: the job. Expires by its result_ttl or failure_ttl once it has ended."""
        return f"{self.prefix}job:{job_id}"

    def results(self, job_id: str) -> str:
        """STREAM of the ten latest attempts; expires with the job."""
        return f"{self.prefix}job:{job_id}:results"

    def payload(self, job_id: str) -> str:
        """STRING: a payload of over 64 KiB, beside the job's hash; expires with the job."""
        return f"{self.prefix}job:{job_id}:payload"

    def result(self, job_id: str) -> str:
        """STRING: a result of over 64 KiB; expires with the job."""
        return f"{self.prefix}job:{job_id}:result"

    @property
    def groups(self) -> str:
        """ZSET of groups by the end of their records (us), inf while any of their jobs is open."""
        return f"{self.prefix}groups"

    def group(self, group: str) -> str:
        """HASH: how many of a group's jobs have ended, by status; created_at, expires, kept."""
        return f"{self.prefix}group:{group}"

    def group_jobs(self, group: str) -> str:
        """ZSET of a group's jobs, in the order of their enqueue."""
        return f"{self.prefix}group:{group}:jobs"

    def group_open(self, group: str) -> str:
        """SET of a group's jobs that have not ended."""
        return f"{self.prefix}group:{group}:open"

    def group_ended(self, group: str) -> str:
        """HASH: how each of a group's jobs has ended, by id; ` kept` behind if for ever."""
        return f"{self.prefix}group:{group}:ended"

    def awaited(self, job_id: str) -> str:
        """SET of the parents whose end a deferred job still waits for."""
        return f"{self.prefix}job:{job_id}:awaited"

    def dependents(self, job_id: str) -> str:
        """ZSET of jobs that wait for this job's success, in the order of their enqueue."""
        return f"{self.prefix}job:{job_id}:dependents"

    def dependents_any(self, job_id: str) -> str:
        """ZSET of jobs that wait for this job's end, a failure included."""
        return f"{self.prefix}job:{job_id}:dependents:any"

    def output(self, job_id: str) -> str:
        """STREAM of pieces of a running job's output, while somebody follows it; a minute."""
        return f"{self.prefix}job:{job_id}:output"

    def request(self, job_id: str) -> str:
        """STRING: the time and request of a job that is gone already; a minute."""
        return f"{self.prefix}job:{job_id}:request"

    def staged(self, name: str) -> str:
        """STRING: a large value on its way into a script; expires after ten minutes."""
        return f"{self.prefix}staged:{name}"

    def unique(self, key: str) -> str:
        """STRING: until when a unique key is held, and by which job; expires with a window."""
        return f"{self.prefix}unique:{key}"

    @property
    def audit(self) -> str:
        """STREAM of operators' actions in the dashboard; some 10,000 entries."""
        return f"{self.prefix}audit"

    @property
    def bridge(self) -> str:
        """HASH of jobs taken from RQ, as JSON, until RQ is shown their end."""
        return f"{self.prefix}bridge:rq"

    @property
    def limits(self) -> str:
        """ZSET of keys of limits, by the end of their use (us); inf while in use."""
        return f"{self.prefix}limits"

    def limit_holders(self, key: str) -> str:
        """ZSET of started jobs that hold a limit of concurrency, by their start (us)."""
        return f"{self.prefix}limit:holders:{key}"

    def limit_state(self, key: str) -> str:
        """HASH: a limit's numbers, and when all its tokens are back; expires by then."""
        return f"{self.prefix}limit:state:{key}"

    def limit_queues(self, key: str) -> str:
        """SET of queues with jobs that wait for a limit."""
        return f"{self.prefix}limit:queues:{key}"

    def limit_waiting(self, queue: str, key: str) -> str:
        """ZSET of a queue's jobs that wait for a limit, by priority and place."""
        return f"{self.prefix}limit:waiting:{queue},{key}"

    def stats(self, queue: str) -> str:
        """HASH of counters: enqueued, finished, failed, stopped, canceled, retried, repeated.

        Also put_back, of attempts that had begun, and lost, with their process.
        """
        return f"{self.prefix}stats:{queue}"

    def history_minute(self, queue: str, minute: int) -> str:
        """HASH of what became of a queue's attempts in a minute since 1970; 48 hours."""
        return f"{self.prefix}history:minute:{minute}:{queue}"

    def history_hour(self, queue: str, hour: int) -> str:
        """HASH: the same of an hour since 1970; 90 days."""
        return f"{self.prefix}history:hour:{hour}:{queue}"

    def history_functions(self, queue: str, hour: int) -> str:
        """HASH: the same of an hour since 1970, by function; 7 days."""
        return f"{self.prefix}history:functions:{hour}:{queue}"

    def metrics(self, queue: str) -> str:
        """HASH: the same since the queue's first job, also by function; stays with the queue."""
        return f"{self.prefix}metrics:total:{queue}"

    def master(self, name: str) -> str:
        """HASH: a master's row; expires when its heartbeats stop."""
        return f"{self.prefix}master:{name}"

    def worker(self, master: str, number: int) -> str:
        """HASH: a worker's row; expires when its master's heartbeats stop."""
        return f"{self.prefix}worker:{master}:{number}"

    def answers(self, request: str) -> str:
        """STREAM of masters' replies to a command; a minute."""
        return f"{self.prefix}answers:{request}"

    def wake_master(self, name: str) -> str:
        """ZSET of a single member: "look at Redis", for one master."""
        return f"{self.prefix}wake:master:{name}"

    def wake_queue(self, queue: str) -> str:
        """ZSET of a single member: "there is work", for one idle master."""
        return f"{self.prefix}wake:queue:{queue}"


# Named by the scripts alone:
#   suspended         SET of queues that have work, instead of nonempty, while all are paused
#   nonempty          SET of queues whose ready set has members
#   counters          HASH: back, front (places), fence, seen, reap_after (us), behind (in endings)
#   control:<master>  LIST of commands as JSON, until obeyed
#   endings           LIST of ended jobs, while some of their dependents still wait
#   ended:<name>      ZSET of these dependents, until they go on
#   left-out:<request> STRING: jobs of a batch left out for jobs with their keys; a minute
#   precedence:<name> ZSET of queues by rank, named by its content; an hour, then sent again
#   turn:<master>     STRING: the last turn's answer, for its replay; an hour
#   history-request:<master> STRING: the last request to add to the history; an hour
#   metrics:functions:<queue> SET of functions counted by name, 200 at most; as the queue
