require "sidekiq"
require_relative "ruby_jobs"

Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch("BENCH_URL") }
  config.logger.level = Logger::WARN
end

class BenchJob
  include Sidekiq::Worker

  def perform(call, *args)
    result = Bench::CALLS.fetch(call).call(*args)
    Sidekiq.redis { |redis| redis.hset(Bench::RESULTS, jid, result.to_s) }
  end
end
