-- For wrk: prints one line of results; with a text, and pairs of a cookie and a CSRF token, sends
-- comments, each of its own text, by these people in turn.

function init(args)
  local sent, people = 0, (#args - 1) / 2
  if #args == 0 then
    return
  end
  request = function()
    local at = sent % people * 2 + 2
    sent = sent + 1
    local headers = {Cookie = args[at], ["Content-Type"] = "application/x-www-form-urlencoded"}
    local body = "csrf_token=" .. args[at + 1] .. "&body=" .. args[1] .. string.format("%08d", sent)
    return wrk.format("POST", nil, headers, body)
  end
end

function done(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.timeout + e.status -- of status: 400 and more
  local median, p99 = latency:percentile(50), latency:percentile(99) -- microseconds, as duration
  print("RESULT", summary.requests, summary.duration, errors, median, p99)
end
