-- What wrk has found, for drivers.py beside it: all of its histogram, not four percentiles.
-- Times in microseconds; it is called once, at the end.
function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format("anysock requests %d %d %d", summary.requests, summary.duration, summary.bytes))
  print(string.format("anysock errors connect %d read %d write %d status %d timeout %d",
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
  for i = 1, #latency do
    local value, count = latency(i)
    print(string.format("anysock latency %d %d", value, count))
  end
end
