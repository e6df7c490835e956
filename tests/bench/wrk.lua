-- What wrk has measured, as one line of JSON for tests/bench/run.
function done(summary, latency)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format('{"count": %d, "failed": %d, "rate": %.0f, "p50": %.1f, "p99": %.1f, "p999": %.1f}', summary.requests, failed,
        summary.requests * 1e6 / summary.duration, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
