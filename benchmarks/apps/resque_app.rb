# rake-less: as many workers as asked for, each of which forks for every job.
require "resque"
require_relative "ruby_jobs"

class BenchJob
  def self.perform(call, id, *args)
    Resque.redis.redis.hset(Bench::RESULTS, id, Bench::CALLS.fetch(call).call(*args).to_s)
  end
end

Resque.redis = "#{ENV.fetch('BENCH_URL')}/0"
workers = Array.new(Integer(ARGV.fetch(0))) do
  fork do
    Resque.redis.reconnect
    Resque::Worker.new("default").work(0.1)
  end
end
%w[TERM INT].each { |name| trap(name) { workers.each { |pid| Process.kill("TERM", pid) } } }
Process.waitall
