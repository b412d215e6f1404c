"""What the tables call those measured, and by which claims find them."""

RQD = "rqd"
REUSED = "rqd --jobs-per-child 1000"
RQ = "rq worker-pool"
RQ_SIMPLE = "rq worker-pool, SimpleWorker"
CELERY = "celery prefork"
DRAMATIQ = "dramatiq -t 1"
HUEY = "huey -k process"
TASKIQ = "taskiq"
SIDEKIQ = "sidekiq -c 1, 4 processes"
RESQUE = "resque"
BARE = "bare loop: the zygote alone"
PYTHON_PEERS = (RQ_SIMPLE, CELERY, DRAMATIQ, HUEY, TASKIQ)
PEERS = (*PYTHON_PEERS, SIDEKIQ)
