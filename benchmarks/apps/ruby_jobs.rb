# The same jobs for Sidekiq and Resque. Neither keeps what a job returns: each puts it into a hash.
module Bench
  CALLS = {
    "noop" => ->(*) { 1 },
    "started_at" => ->(*) { Time.now.to_f },
    "sleep" => ->(seconds) { began = Time.now.to_f; Kernel.sleep(seconds); began },
    "burn" => lambda do |seconds|
      began = Time.now.to_f
      clock = Process::CLOCK_THREAD_CPUTIME_ID
      stop = Process.clock_gettime(clock) + seconds
      nil while Process.clock_gettime(clock) < stop
      began
    end
  }.freeze
  RESULTS = "bench:results".freeze
end
