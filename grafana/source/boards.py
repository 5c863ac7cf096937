"""The seven boards. A panel is a call of kit.py: title, width of 24, what it asks, and what its "i" says.

Sums, shares and lists of requests come from the API, which knows them exactly and from the first minute. Curves of rates,
percentiles and states come from Prometheus.
"""

from kit import (
    CARRIED, FILTER, FILTERS, FINE, OVER, PLAIN, WARNING, WINDOW, Column, api, bars, board, carried, change, code, custom,
    donut, facts, from_api, heatmap, hidden, incidents_annotation, kept, link, matrix, names, number, open_log, override,
    percentiles, prom, prom_table, row, section, series, stat, steps, t, table, textbox, time, timeline, to, trend, word,
    words,
)

CHANNEL = 'channel_id=~"$channel_id"'
MODEL = 'model=~"$model"'
SLOW = steps((5, OVER), base="transparent")
SHARE_OF_ERRORS = steps((0.05, WARNING), (0.2, OVER))
SHARE_OF_SUCCESS = steps((0.8, WARNING), (0.95, FINE), base=OVER)
USED = steps((0.8, WARNING), (1, OVER))
SECONDS = steps((5, OVER))


def outcomes():
    return words(success=("success", FINE), client_gone=("client gone", WARNING), stream_error=("stream error", OVER),
                 error=("failed attempt", OVER), refund=("refund", "blue"), settlement=("settlement", "blue"),
                 test=("test", PLAIN), other=("other", PLAIN))


def severities():
    return words(critical=("critical", OVER), warning=("warning", WARNING), info=("info", "blue"), none=("none", FINE))


def statuses():
    return words(enabled=("enabled", FINE), manually_disabled=("disabled by hand", "blue"),
                 auto_disabled=("disabled automatically", OVER), deleted=("deleted", PLAIN), unknown=("unknown", PLAIN))


def kinds_of_rows():
    return names(topup="top-up", consume="consumption", manage="management", system="system", error="failure",
                 refund="refund", login="login", test="test", unknown="unknown")


def measures_of_limits():
    return names(tokens="tokens", input_tokens="input tokens", output_tokens="output tokens", requests="requests",
                 errors="failed attempts", quota="quota", cost_usd="US dollars")


def windows():
    """Calendar windows; rolling ones are lengths such as 24h, which need no word."""
    return names(day="day", week="week", month="month")


def restores():
    return names(never="never", window_reset="with the window")


def reasons_of_acts():
    return names(off="breaker is off", no_channel="no channel number", unknown_channel="unknown channel",
                 protected="protected", too_old="alert too old", from_the_future="alert from the future",
                 last_of="last channel", too_many="too many an hour", hands_off="changed by a person",
                 not_ours="not ours", over="alert is over", unreachable="unreachable", denied="access denied",
                 rate_limited="rate limited", rejected="rejected", server="server error")


def reasons_of_deliveries():
    return names(unreachable="unreachable", ambiguous="may have arrived", server="server error", answer="odd answer",
                 rate_limited="rate limited", clock="wrong clock", plainer="sent plainer", moved="chat moved",
                 unauthorized="bad token", chat="no such chat", forbidden="forbidden", keyword="keyword missing",
                 signature="wrong signature", ip_not_allowed="IP not allowed", rejected="rejected",
                 too_long="too long", too_old="too old", too_many="too many", target_removed="target removed",
                 dropped="dropped by hand")


def log_columns(all_of_them=False):
    """The columns of rows of the log, wherever they are listed; in a list of every kind of row, some more."""
    found = [
        time("created_at", "Time", width=160),
        word("model", "Model"),
        word("channel_name", "Channel"),
        word("username", "User", width=90),
    ]
    if all_of_them:
        found.append(word("token_name", "Token", width=95))
    found += [
        number("duration_seconds", "Duration", "s", decimals=1, width=95, cell="background", thresholds=SLOW,
               links=[open_log()]),
        number("time_to_first_token_seconds", "First token", "s", decimals=2, width=95),
        number("input_tokens", "Input", width=80),
        number("output_tokens", "Output", width=80),
        number("cost_usd", "Cost", "currencyUSD", decimals=4, width=90),
        word("outcome", "Outcome", width=110, cell="color-text", mappings=outcomes()),
    ]
    if all_of_them:
        found.append(number("status_code", "Status code", "none", width=95))
    return found + [word("request_id", "Request", links=[open_log()]), hidden("id", "id")]


def overview():
    asked = FILTERS | {"group": "${group:csv}"}

    def share(title, measure, name, unit, root, key, column, text):
        columns = [word(key, column), number(measure, name, unit)]
        return donut(title, 8, "/overview", root, columns, text, asked)

    return board("tm-overview", "Overview", [
        row(4,
            change("Cost", 6, "cost_usd", "currencyUSD", "What was charged in the time range, and the change against the range of the same length before it. Refunds are not taken off.", asked, "more", 2),
            change("Tokens", 6, "tokens", "short", "Input and output tokens of answered requests, cached input included.", asked),
            change("Requests", 6, "requests", "short", "Answered requests. A fall of more than half is red: do clients reach the gateway?", asked, "less"),
            change("Share of failed attempts", 6, "error_share", "percentunit", "Failed attempts of all attempts. Needs ERROR_LOG_ENABLED=true in new-api. If it doubles: see the board Channels & models.", asked, "more", 2, thresholds=SHARE_OF_ERRORS)),
        row(4,
            change("Active models", 4, "active_models", "none", "Models that were asked for in the time range.", asked),
            change("Active channels", 4, "active_channels", "none", "Channels that answered in the time range.", asked),
            stat("Channels disabled", 4, prom('count(sum by (channel_id) (newapi_channel_status{%s,status!="enabled"}) == 1) or vector(0)' % CHANNEL, instant=True),
                 "Channels that are disabled now, by hand or automatically. The filters for models and groups do not apply. See the board Channels & models.", "none", thresholds=steps((1, WARNING))),
            stat("Models without channel", 4, prom('count(newapi_model_enabled_channels{%s,group=~"$group"} == 0) or vector(0)' % MODEL, instant=True),
                 "Pairs of group and model that no enabled channel serves now. Requests for them fail and leave no row in the log. The filter for channels does not apply.", "none", thresholds=steps((1, OVER))),
            stat("Fullest limit", 4, prom("max(newapi_limit_used_ratio)", instant=True),
                 "How much of the fullest limit is used. Red: it is exceeded. The table of limits below says which. The filters above do not apply.", "percentunit", thresholds=USED, decimals=0),
            stat("Alerts firing", 4, [
                prom('count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)', t("All alerts"), instant=True),
                prom('count(ALERTS{alertstate="firing",severity="critical"}) or vector(0)', t("Critical ones"), instant=True)],
                 "Alerts that fire now, the watchdog not counted, and those among them that are critical. The filters above do not apply. See the board Limits & alerts.", "none",
                 thresholds=steps((1, WARNING)), names=True, overrides=[override(t("Critical ones"), {"thresholds": steps((1, OVER)), "color": {"mode": "thresholds"}})])),
        row(9,
            trend("Cost by model", 16, "cost_usd", "Cost", "currencyUSD", "Dollars in each step. A bar that stands out is worth a click on its model in the legend.", asked),
            share("Share of cost by model", "cost_usd", "Cost", "currencyUSD", "by_model", "model", "Model", "The 20 most expensive models of the time range.")),
        row(9,
            trend("Tokens by model", 16, "tokens", "Tokens", "short", "Input and output tokens in each step.", asked),
            share("Share of tokens by model", "tokens", "Tokens", "short", "by_model", "model", "Model", "The 20 models with most tokens in the time range.")),
        row(9,
            trend("Cost by channel", 16, "cost_usd", "Cost", "currencyUSD", "Dollars in each step, by the channel that answered.", asked, by="channel"),
            share("Share of cost by channel", "cost_usd", "Cost", "currencyUSD", "by_channel", "channel_name", "Channel", "The 20 most expensive channels of the time range.")),
        row(9,
            series("Requests and failed attempts", 8, api("/trend", "items", [
                Column("time", "time", "timestamp", plain=True), number("requests", "Requests"), number("errors", "Failed attempts")],
                asked, form="timeseries"), "Answered requests and failed attempts in each step.", legend="bottom", calcs=("sum", "max"),
                overrides=[override(t("Failed attempts"), {"color": {"mode": "fixed", "fixedColor": OVER}})]),
            series("Duration of requests", 8, api("/trend", "items", [
                Column("time", "time", "timestamp", plain=True), number("duration_p50_seconds", "p50", "s"),
                number("duration_p95_seconds", "p95", "s"), number("duration_p99_seconds", "p99", "s"),
                number("duration_average_seconds", "average", "s")], asked, form="timeseries"),
                "Exact percentiles of each step. The board Performance tells more.", "s", legend="bottom", overrides=percentiles()),
            share("Share of tokens by channel", "tokens", "Tokens", "short", "by_channel", "channel_name", "Channel", "The 20 channels with most tokens in the time range.")),
        section("People and limits"),
        row(9,
            table("Top users", 24, "/overview", "by_user", [
                word("username", "User"),
                number("cost_usd", "Cost", "currencyUSD", decimals=2, width=110),
                number("cost_share", "Share of cost", "percentunit", decimals=1, width=180, cell="gauge", min=0, max=1, thresholds=steps(base="blue")),
                number("tokens", "Tokens", width=110),
                number("tokens_share", "Share of tokens", "percentunit", decimals=1, width=180, cell="gauge", min=0, max=1, thresholds=steps(base="blue")),
                number("requests", "Requests", width=110),
                number("errors", "Failed attempts", width=140),
                number("error_share", "Share of failed attempts", "percentunit", decimals=1, width=190, cell="color-text", thresholds=SHARE_OF_ERRORS),
                number("slow_share", "Share of slow requests", "percentunit", decimals=1, width=180),
            ], "Who spends most in the time range: at most 500, the most expensive first.", asked)),
        row(8,
            table("Limits, fullest first", 12, "/limits", "items", [
                word("limit", "Limit"), word("channel_name", "Channel"), word("model", "Model"),
                number("ratio", "Used", "percentunit", decimals=0, width=140, cell="gauge", min=0, max=1, thresholds=USED),
                time("resets_at", "Calm again", unit="dateTimeFromNow", width=120),
            ], "The ten fullest limits now. The filters above do not apply.", {"limit": "10"}),
            table("Top users of the fullest limit", 12, "/limits", "items.#.contributors|@flatten", [
                word("username", "User"), word("channel_name", "Channel"), word("model", "Model"),
                number("used", "Used", "short", width=100),
                number("share", "Share", "percentunit", decimals=0, width=140, cell="gauge", min=0, max=1, thresholds=steps(base="blue")),
            ], "Who used the limit that stands first in the table beside, in its own unit. The filters above do not apply.", {"limit": "1"})),
    ], carried("channel_id", "model", "group"), annotations=[incidents_annotation()])


def channels():
    # Channels may have the same name.
    named = "{{channel_name}} ({{channel_id}})"
    status = "max by (channel_id, channel_name) (newapi_channel_status{%s,status=\"%s\"})"
    state = f"1 * {status % (CHANNEL, 'enabled')} + 2 * {status % (CHANNEL, 'manually_disabled')} + 3 * {status % (CHANNEL, 'auto_disabled')}"
    states = words(**{"1": ("enabled", FINE), "2": ("disabled by hand", "blue"), "3": ("disabled automatically", OVER)})
    measures = [
        number("requests", "Requests", width=90),
        number("success_share", "Success", "percentunit", decimals=1, width=85, cell="color-text", thresholds=SHARE_OF_SUCCESS),
        number("errors", "Failed attempts", width=115),
        number("duration_p95_seconds", "p95", "s", decimals=1, width=75),
        number("time_to_first_token_p95_seconds", "First token p95", "s", decimals=1, width=120),
        number("cost_usd", "Cost", "currencyUSD", decimals=2, width=90),
    ]
    last_error = [time("last_error.created_at", "Last failure", unit="dateTimeFromNow", width=125, links=[open_log()]),
                  hidden("last_error.id", "id")]
    attempts = "sum by (channel_id, channel_name) (increase(newapi_requests_total{%s}[$__rate_interval]) or increase(newapi_errors_total{%s}[$__rate_interval]))" % (FILTER, FILTER)
    good = "(sum by (channel_id, channel_name) (increase(newapi_requests_total{outcome!=\"stream_error\",%s}[$__rate_interval])) or 0 * %s) / (%s > 0)" % (FILTER, attempts, attempts)
    p95 = "histogram_quantile(0.95, sum by (channel_id, channel_name, le) (rate(newapi_request_duration_seconds_bucket{retried=\"false\",%s}[$__rate_interval]))) >= 0" % FILTER
    return board("tm-channels", "Channels & models", [
        row(4,
            stat("Channels enabled", 4, prom('sum(newapi_channel_status{%s,status="enabled"})' % CHANNEL, instant=True),
                 "Channels that may be used now. The filter for models does not apply.", "none"),
            stat("Disabled automatically", 4, prom('sum(newapi_channel_status{%s,status="auto_disabled"})' % CHANNEL, instant=True),
                 "Channels that new-api disabled by itself. Look at the last failure in the table below. The filter for models does not apply.", "none", thresholds=steps((1, OVER))),
            stat("Disabled by hand", 4, prom('sum(newapi_channel_status{%s,status="manually_disabled"})' % CHANNEL, instant=True),
                 "Channels that a person disabled, or the circuit breaker. The filter for models does not apply.", "none", color="blue"),
            stat("Models without channel", 4, prom('count(newapi_model_enabled_channels{%s} == 0) or vector(0)' % MODEL, instant=True),
                 "Pairs of group and model that no enabled channel serves now. Requests for them fail and leave no row in the log. The filter for channels does not apply.", "none", thresholds=steps((1, OVER))),
            stat("Failovers", 4, prom("sum(increase(newapi_failovers_total{%s}[$__range]))" % FILTER, instant=True),
                 "Attempts in the time range that were followed by one on another channel.", "short", decimals=0),
            stat("Lowest balance", 4, prom("min(newapi_channel_balance_usd{%s})" % CHANNEL, instant=True),
                 "The lowest balance that new-api knows of a channel. It may be old: new-api asks when it is told to. The filter for models does not apply.", "currencyUSD", thresholds=steps((10, WARNING), (50, FINE), base=OVER), decimals=2)),
        row(8, timeline("Status of channels", 24, state, named, states, "Which channels were enabled when. Red: new-api disabled it. Blue: a person did, or the circuit breaker. The filter for models does not apply.")),
        row(10, table("Channels", 24, "/channels", "items", [
            word("channel_name", "Channel"),
            word("status", "Status", width=145, cell="color-text", mappings=statuses()),
            word("type_name", "Provider", width=115),
            *measures,
            number("balance_usd", "Balance", "currencyUSD", decimals=2, width=90, cell="color-text", thresholds=steps((10, WARNING), (50, PLAIN), base=OVER)),
            *last_error,
        ], "Every channel with its figures in the time range. The filters above do not apply. A click on the last failure opens its row.", WINDOW)),
        row(9,
            series("Share of good answers by channel", 12, prom(good, named),
                   "Answers without a broken stream, of all attempts; clients that left are no fault of the channel. A dip tells which channel fails and since when.", "percentunit", step="5m", calcs=("lastNotNull", "mean")),
            series("Duration p95 by channel", 12, prom(p95, named),
                   "95 % of the requests that were not retried took no longer.", "s", step="5m", calcs=("lastNotNull", "mean"))),
        row(9,
            series("Failed attempts by status", 12, prom("sum by (status_code, error_type) (increase(newapi_errors_total{%s}[$__rate_interval]))" % FILTER, "{{status_code}} {{error_type}}"),
                   "Failed attempts in each step. 429: the provider limits the rate. 401 and 403: the key is bad. 5xx: the provider fails.", bars=True, step="5m", calcs=("max", "mean")),
            series("Failovers by channel", 12, prom("sum by (channel_id, channel_name) (increase(newapi_failovers_total{%s}[$__rate_interval]))" % FILTER, named),
                   "Attempts on a channel that were followed by one on another channel, in each step.", bars=True, step="5m", calcs=("max", "mean"))),
        section("Models"),
        row(12, matrix("Cost: model by channel", 24, "sum by (model, channel_name) (increase(newapi_cost_usd_total{%s}[$__range])) > 0" % FILTER, "model", "channel_name",
                       "Dollars in the time range. A model in an unexpected column is a channel that is set up wrongly.", "currencyUSD", 2)),
        row(12, matrix("Requests: model by channel", 24, "sum by (model, channel_name) (increase(newapi_requests_total{%s}[$__range])) > 0" % FILTER, "model", "channel_name",
                       "Answered requests in the time range.", "short")),
        row(12,
            table("Models", 16, "/models", "items", [word("model", "Model"), *measures, *last_error],
                  "Every model with its figures in the time range. The filters above do not apply.", WINDOW),
            prom_table("Enabled channels of each model", 8, "sort(newapi_model_enabled_channels{%s})" % MODEL, [word("group", "Group", width=100), word("model", "Model")],
                       "Fewest first. Red: nobody in this group can use the model. Orange: the only channel left. The filter for channels does not apply.",
                       number("Value", "Channels", "none", width=100, cell="color-text", thresholds=steps((1, WARNING), (2, FINE), base=OVER)),
                       drop=("__name__", "instance", "job"))),
    ], carried("channel_id", "model"), annotations=[incidents_annotation()])


def quantile(q, family):
    return "histogram_quantile(%s, sum by (le) (rate(newapi_%s_bucket{%s}[$__rate_interval])))" % (q, family, FILTER)


def curves(family):
    average = "sum(rate(newapi_{0}_sum{{{1}}}[$__rate_interval])) / sum(rate(newapi_{0}_count{{{1}}}[$__rate_interval]))"
    return [prom(quantile(0.5, family), "p50"), prom(quantile(0.95, family), "p95"),
            prom(quantile(0.99, family), "p99", exemplar=True), prom(average.format(family, FILTER), t("average"))]


def performance():
    speed = "sum by (model) (rate(newapi_output_tokens_total{%s}[$__rate_interval])) / (sum by (model) (rate(newapi_request_duration_seconds_sum{%s}[$__rate_interval])) > 0)" % (FILTER, FILTER)
    p95 = "histogram_quantile(0.95, sum by (model, le) (rate(newapi_request_duration_seconds_bucket{%s}[$__rate_interval]))) >= 0" % FILTER
    slow = "sum by (model) (increase(newapi_slow_requests_total{0}[$__rate_interval])) / (sum by (model) (increase(newapi_requests_total{0}[$__rate_interval])) > 0)".format("{%s}" % FILTER)
    return board("tm-performance", "Performance", [
        row(4,
            change("Average", 4, "duration_average_seconds", "s", "Average duration of answered requests, earlier channels included, and its change against the range before.", FILTERS, "more", 1),
            change("p50", 4, "duration_p50_seconds", "s", "Half of the requests took no longer.", FILTERS, "more", 1),
            change("p95", 4, "duration_p95_seconds", "s", "95 % of the requests took no longer. Orange: a fifth more than before. Red: twice as much.", FILTERS, "more", 1),
            change("p99", 4, "duration_p99_seconds", "s", "99 % of the requests took no longer.", FILTERS, "more", 1),
            change("First token p95", 4, "time_to_first_token_p95_seconds", "s", "95 % of the streamed requests began to answer within this time.", FILTERS, "more", 2),
            change("Share of slow requests", 4, "slow_share", "percentunit", "Requests that took longer than SLOW_REQUEST_THRESHOLD, 5 s if not set.", FILTERS, "more", 1)),
        row(10,
            series("Duration: a dot is one request", 12, curves("request_duration_seconds"), "Percentiles and average over time. Hover a dot and press Open log to see that request.", "s", step="2m", legend="bottom", calcs=("lastNotNull", "max"), overrides=percentiles()),
            heatmap("Distribution of durations", 12, "sum by (le) (increase(newapi_request_duration_seconds_bucket{%s}[$__rate_interval]))" % FILTER, "How many requests took how long. Two bands are two kinds of requests; a band that climbs is a channel that slows down.")),
        row(16, table("Top 20 slow requests, over 5 s in red", 24, "/slow-requests", "items", log_columns(),
                      "The slowest of the time range. Click a duration or a request for its detail.", FILTERS | {"limit": "20"})),
        row(9,
            series("Time to first token", 12, curves("time_to_first_token_seconds"), "Of streamed requests. If it grows and the speed stays, the provider queues.", "s", step="2m", legend="bottom", calcs=("lastNotNull", "max"), overrides=percentiles()),
            series("Output tokens per second by model", 12, prom(speed, "{{model}}"), "Output tokens for each second that requests took, the wait for the first token included.", "short", step="5m", calcs=("mean", "max"))),
        row(9,
            series("Duration p95 by model", 12, prom(p95, "{{model}}"), "95 % of the requests took no longer.", "s", step="5m", calcs=("lastNotNull", "max")),
            series("Share of slow requests by model", 12, prom(slow, "{{model}}"), "Requests over SLOW_REQUEST_THRESHOLD, of all answered requests.", "percentunit", step="5m", calcs=("mean", "max"))),
    ], carried("channel_id", "model"), annotations=[incidents_annotation()])


def logs():
    people = {"group": "${group:csv}", "username": "${username}", "token_name": "${token_name}"}
    # Who changes a filter on a later page begins with the first page of what passes the new one.
    asked = FILTERS | people | {"outcome": "${outcome:csv}", "type": "${type:csv}", "min_duration": "${min_duration}",
                                "request_id": "${request_id}", "limit": "100", "cursor": "${cursor}", "stale_cursor": "first"}
    filters = [
        *carried(*CARRIED),
        textbox("username", "User"),
        textbox("token_name", "Token"),
        custom("outcome", "Outcome", [("success", "success"), ("stream error", "stream_error"), ("client gone", "client_gone"),
                                      ("failed attempt", "error"), ("refund", "refund"), ("settlement", "settlement"), ("test", "test")], many=True),
        custom("type", "Type", [("consumption", "2"), ("failure", "5"), ("refund", "6"), ("top-up", "1"), ("management", "3"), ("system", "4"), ("login", "7")], many=True),
        custom("min_duration", "Slower than", [("all", "0s"), ("1 s", "1s"), ("5 s", "5s"), ("20 s", "20s"), ("60 s", "60s")]),
        textbox("request_id", "Request"),
    ]
    page = to("tm-logs", "${__url_time_range}&" + kept(*(one["name"] for one in filters)) + "&var-cursor=")
    older = word("next_cursor", "Older", links=[link("Next page", page + "${__value.raw}")])
    older.look["mappings"] = [{"type": "regex", "options": {"pattern": "^.+$", "result": {"text": t("Older rows →"), "index": 0}}}]
    return board("tm-logs", "Logs", [
        row(4,
            facts("Answered with these filters", 16, "/overview", "totals", [
                number("requests", "Requests"), number("errors", "Failed attempts"), number("tokens", "Tokens"),
                number("cost_usd", "Cost", "currencyUSD", decimals=2),
                number("duration_p95_seconds", "p95", "s", decimals=1),
            ], "Sums of the time range for channel, model, group, user and token. The other filters do not apply to them.", FILTERS | people),
            table("Paging", 8, "/logs", "", [number("items.#", "Rows on this page", "none", width=160), older],
                  "Goes on with older rows. Another filter begins with its newest rows again; so does the link in the title of the table below.", asked)),
        row(20, table("Rows, newest first", 24, "/logs", "items", log_columns(all_of_them=True),
                      "100 rows a page. Click a duration or a request for its detail; over 5 s is red.", asked, filterable=True,
                      links=[link("Newest rows", page)])),
    ], [*filters, textbox("cursor", "Cursor", hide=True)])


def log_detail():
    one = "/logs/${row}"
    # Newer versions of new-api list tools by name. The API puts "tool_" before it.
    tools = {"web_search": ("web search", "yellow"), "file_search": ("file search", "light-yellow"),
             "image_generation": ("image generation", "dark-yellow")}
    kinds = words(fresh_input=("fresh input", "blue"), cache_read=("cache read", FINE), cache_write=("cache write", WARNING),
                  image_input=("image input", "light-blue"), audio_input=("audio input", "dark-blue"),
                  output=("output", "purple"), audio_output=("audio output", "light-purple"),
                  fixed_price=("fixed price", "dark-purple"), **tools, **{"tool_" + name: look for name, look in tools.items()},
                  rounding=("rounding", PLAIN), minimum_charge=("minimum charge", PLAIN),
                  charged=("charged", "blue"), settlement=("settlement", "blue"), refund=("refund", "blue"))
    costs = [word("kind", "Part", mappings=kinds), number("cost_usd", "Cost", "currencyUSD", decimals=5)]

    def hidden_text(name, selector, url=one):
        return from_api(name, "", url, "", selector, selector, hide=True)

    tries = [number("status_code", "Status code", "none", width=95, cell="color-text", thresholds=steps((400, OVER))), word("error", "Error")]
    return board("tm-log-detail", "Log detail", [
        row(4, facts("This row", 24, one, "", [
            word("id", "Row of the log"), word("model", "Model"), word("channel_name", "Channel"),
            word("outcome", "Outcome", mappings=outcomes()), word("username", "User"), word("token_name", "Token"),
            number("tokens.total", "Tokens"), number("cost_usd", "Cost", "currencyUSD", decimals=4),
        ], "The row of the log whose id stands above; latest is the newest answered request. If this is another row, there is none with that id.")),
        row(8,
            facts("Timing", 6, one, "", [
                number("timing.duration_seconds", "Duration", "s", decimals=1, thresholds=SECONDS),
                number("timing.time_to_first_token_seconds", "First token", "s", decimals=2),
                number("timing.tokens_per_second", "Tokens per second", "short", decimals=1),
                number("timing.attempts.#", "Channels tried", "none"),
            ], "Over 5 s the duration is red. Few tokens per second: a slow model. A late first token: a queue, or reasoning. Several channels tried: time lost before.", orientation="horizontal"),
            donut("Make-up of tokens", 9, one, "tokens.parts", [word("kind", "Part", mappings=kinds), number("tokens", "Tokens")],
                  "Tokens by kind. Cached input is cheaper than fresh input."),
            bars("Make-up of cost", 9, api(one, "cost.parts", costs),
                 "Dollars by kind of token and by tool, computed from the price factors below. Where they do not suffice, one bar is the whole amount.", "currencyUSD", columns=costs)),
        row(7,
            table("Channels tried", 12, one, "timing.attempts", [word("channel_name", "Channel", width=180), *tries],
                  "In the order in which the gateway tried them; the last one answered."),
            table("Price factors", 6, one, "factors", [word("factor", "Factor"), number("amount", "Amount", "none", width=100)],
                  "The ratios and prices that new-api recorded on this row."),
            facts("Price check", 6, one, "cost", [
                number("cost_usd", "Charged", "currencyUSD", decimals=5),
                number("recomputed_usd", "Computed again", "currencyUSD", decimals=5),
                number("difference_usd", "Difference", "currencyUSD", decimals=5),
            ], "The price computed again from the factors. Empty where the row does not tell enough.", orientation="horizontal")),
        row(12,
            code("Request", 12, "request_json", "What new-api recorded of the request, and its body where the installation stores bodies."),
            code("Response", 12, "response_json", "What new-api recorded of the answer, and its body where the installation stores bodies.")),
        row(7, table("All rows of this request", 24, "/requests/${request_id}", "items", [
            time("created_at", "Time"), word("type_name", "Type", width=110, mappings=kinds_of_rows()), word("channel_name", "Channel"), word("model", "Model"),
            number("duration_seconds", "Duration", "s", decimals=1, width=110, links=[open_log()]),
            number("cost_usd", "Cost", "currencyUSD", decimals=4, width=100),
            word("outcome", "Outcome", width=130, cell="color-text", mappings=outcomes()),
            *tries, hidden("id", "id"),
        ], "Failed attempts and the final row, in the order tried. Red with a 404 if new-api wrote no request id.")),
        row(4, table("Bodies", 24, one, "bodies", [
            word("available", "Available", width=110), word("truncated", "Cut", width=110), word("source", "Source", width=200), word("reason", "Reason"),
        ], "Whether the bodies of request and response are there, from where, and if not, why.")),
        row(9, table("Slow requests of the time range", 24, "/slow-requests", "items", log_columns(),
                     "If you came here without a row: pick one.", WINDOW | {"limit": "20"})),
    ], [
        *carried(),
        textbox("log_id", "Row of the log", "latest"),
        # Looked up once, so that all panels are about the same row.
        hidden_text("row", "id", "/logs/${log_id}"),
        hidden_text("request_json", "request_text"),
        hidden_text("response_json", "response_text"),
        hidden_text("request_id", "request_id"),
    ], refresh="")


def limits():
    firing = 'count(ALERTS{alertstate="firing",severity="%s"}) or vector(0)'
    # Alerts of ours carry the channel's number only, so that they stay the same when it is renamed; its name is
    # looked up. A channel that is gone is told by its number.
    channel = 'topk by (channel_id) (1, max by (channel_id, channel_name) (newapi_channel_info))'
    alerts = 'ALERTS{alertstate="firing"}'
    named = f'({alerts} * on (channel_id) group_left (channel_name) {channel}) or label_join({alerts} unless on (channel_id) newapi_channel_info, "channel_name", "", "channel_id")'
    about = f'label_join({named}, "about", " ", "limit", "group", "target", "reason", "result", "family", "integration", "rule_group")'
    results = words(done=("done", FINE), would_do=("would do", "blue"), already_so=("already so", PLAIN), refused=("refused", WARNING),
                    failed=("failed", OVER), unverified=("unverified", OVER), pending=("in work", WARNING))
    sent = words(sent=("sent", FINE), pending=("waits", WARNING), leased=("being sent", WARNING), dead=("given up", OVER), superseded=("superseded", PLAIN))
    return board("tm-limits", "Limits & alerts", [
        row(4,
            stat("Limits exceeded", 4, prom("count(newapi_limit_used_ratio >= 1) or vector(0)", instant=True), "Limits of which all is used. The bars below say which.", "none", thresholds=steps((1, OVER))),
            stat("Limits near", 4, prom("count((newapi_limit_used_ratio >= 0.8) < 1) or vector(0)", instant=True), "Limits of which more than 80 % is used.", "none", thresholds=steps((1, WARNING))),
            stat("Critical alerts", 4, prom(firing % "critical", instant=True), "Critical alerts that fire now.", "none", thresholds=steps((1, OVER))),
            stat("Warnings", 4, prom(firing % "warning", instant=True), "Warnings that fire now.", "none", thresholds=steps((1, WARNING))),
            stat("Channels tripped", 4, prom("sum(token_monitor_breaker_open) or vector(0)", instant=True), "Channels that the circuit breaker disabled and nobody enabled since. The table of acts says why.", "none", thresholds=steps((1, OVER))),
            stat("Messages waiting", 4, prom("sum(token_monitor_outbox_pending) or vector(0)", instant=True), "Parts of messages that could not be delivered yet. The table of messages says why.", "none", thresholds=steps((1, WARNING), (20, OVER)))),
        row(12,
            bars("Used of each limit", 9, prom('sort_desc(topk(50, max by (limit, channel_name, model) (newapi_limit_used_ratio)))', "{{limit}} {{channel_name}} {{model}}", instant=True),
                 "The fifty fullest; scroll down to see all of them. Orange from 80 % on, red when exceeded. The table below has up to 500.", "percentunit", top=1, thresholds=USED, decimals=0),
            prom_table("Firing alerts", 15, f"max by (severity, alertname, channel_name, model, about) ({about})", [
                word("severity", "Severity", width=100, cell="color-background", mappings=severities()),
                word("alertname", "Alert", width=230), word("channel_name", "Channel"), word("model", "Model"), word("about", "About"),
            ], "What fires now. The watchdog always does: it proves that the way from Prometheus to the messages works. About: the limit, group or chat.")),
        row(9,
            table("Limits", 24, "/limits", "items", [
                word("limit", "Limit"), word("channel_name", "Channel"), word("model", "Model"),
                word("measure", "Measure", width=110, mappings=measures_of_limits()), number("used", "Used", width=90), number("max", "Max", width=90),
                number("ratio", "Share", "percentunit", decimals=0, width=120, cell="gauge", min=0, max=1, thresholds=USED),
                word("window", "Window", width=80, mappings=windows()),
                time("exhausted_at", "Full", unit="dateTimeFromNow", width=115),
                time("resets_at", "Calm again", unit="dateTimeFromNow", width=115),
                word("action", "Action", width=125, mappings=names(notify="notify", disable_channel="disable channel")),
            ], "Each limit of limits.yml, at most 500, the fullest first. Full: when it will be exceeded at the present rate, if that is in this window.", {"limit": "500"})),
        row(9,
            series("Use of limits over time", 24, prom("topk(8, max by (limit, channel_name, model) (newapi_limit_used_ratio))", "{{limit}} {{channel_name}} {{model}}"),
                   "The fullest limits at each moment. The dashed line is the limit.", "percentunit", step="1m", calcs=("lastNotNull", "max"), lines=steps((1, OVER), base="transparent"))),
        section("What happened and what was done"),
        row(9, table("Incidents", 24, "/incidents", "items", [
            time("started_at", "Since", width=160), word("severity", "Severity", width=90, cell="color-background", mappings=severities()),
            word("rule", "Alert", width=200), word("channel_name", "Channel", width=130),
            word("annotations.summary", "What"),
            word("state", "State", width=90, cell="color-text", mappings=words(firing=("firing", OVER), resolved=("resolved", FINE))),
            time("resolved_at", "Until", width=160),
            word("act.result", "Circuit break", width=115, cell="color-text", mappings=results),
            number("notifications", "Notifications", "none", width=105),
        ], "Alerts that reached the monitor and went on in the time range, newest first, at most 100, and what the circuit breaker did about them.", WINDOW | {"limit": "100"})),
        row(9, table("Circuit breaks", 24, "/breaker", "items", [
            time("asked_at", "Time", width=160), word("action", "Act", width=75, mappings=names(trip="trip", restore="restore")),
            word("channel_name", "Channel", width=130), word("asked_because", "Why", width=200, mappings=restores()),
            word("result", "Result", width=100, cell="color-text", mappings=results),
            word("reason", "Reason", width=140, mappings=reasons_of_acts()), word("detail", "Detail"),
            word("restore", "Restore", width=115, mappings=restores()), time("restore_at", "Enabled again", width=160),
        ], "What was asked of the circuit breaker in the time range, newest first, at most 100: what, when, why and how it went. Why: the rule of the alert, the words of the person, or when it was to be enabled again.", WINDOW | {"limit": "100"})),
        row(9, table("Messages", 24, "/deliveries", "items", [
            time("created_at", "Time", width=160), word("target", "Target", width=100),
            word("state", "State", width=100, cell="color-text", mappings=sent),
            number("part", "Part", "none", width=70), number("parts", "Parts", "none", width=70), number("attempts", "Attempts", "none", width=90),
            word("reason", "Reason", width=140, mappings=reasons_of_deliveries()), word("error", "Error"), time("sent_at", "Sent", width=160),
        ], "Messages to chats in the time range, newest first, at most 100. If one was given up, the reason and the target's own words stand beside it.", WINDOW | {"limit": "100"})),
        row(8,
            series("Acts of the circuit breaker", 8, prom("sum by (action, result) (increase(token_monitor_breaker_actions_total[$__rate_interval]))", "{{action}} {{result}}"),
                   "Acts in each step, by result. Refused, failed and unverified acts leave the channel as it is.", bars=True, step="5m", legend="bottom", calcs=("max",)),
            series("Deliveries", 8, prom('sum by (target, result) (increase(token_monitor_deliveries_total[$__rate_interval])) or on () label_replace(vector(0), "target", "–", "", "")', "{{target}} {{result}}"),
                   "Attempts to deliver parts of messages. A dash: no chat is set up.", bars=True, step="5m", legend="bottom", calcs=("max",)),
            series("Oldest waiting message", 8, prom('max by (target) (token_monitor_outbox_oldest_seconds) or on () label_replace(vector(0), "target", "–", "", "")', "{{target}}"),
                   "How long the oldest message has been waiting. A dash: no chat is set up.", "s", legend="bottom", calcs=("lastNotNull", "max"))),
    ], carried(), annotations=[incidents_annotation()])


def self():
    job = '{job="token-monitor"}'
    return board("tm-self", "Token Monitor itself", [
        row(4,
            stat("Database", 4, prom("min(newapi_up)", instant=True), "Whether new-api's log database answered the last poll.", "none", mappings=words(**{"1": ("up", FINE), "0": ("down", OVER)}), thresholds=steps((1, FINE), base=OVER)),
            stat("Lag", 4, prom("max(token_monitor_tail_lag_seconds)", instant=True), "Time since the end of the log was last reached. Normally below POLL_INTERVAL.", "s", thresholds=steps((30, WARNING), (120, OVER)), decimals=1),
            stat("Rows", 4, prom("sum(increase(token_monitor_log_rows_total[$__range]))", instant=True), "Rows of the log that were counted in the time range.", "short"),
            stat("Late rows", 4, prom("sum(increase(token_monitor_late_rows_total[$__range]))", instant=True), "Rows that became visible after rows with a higher id. They are counted like all others.", "short", decimals=0),
            stat("Failed polls", 4, prom("sum(increase(token_monitor_tail_errors_total[$__range]))", instant=True), "Polls of the log that failed in the time range. The reasons are below.", "short", thresholds=steps((1, WARNING), (20, OVER)), decimals=0),
            stat("File of limits", 4, prom("min(token_monitor_config_last_reload_successful)", instant=True), "Whether limits.yml is in force as it is now. If not, token-monitor check says what is wrong.", "none", mappings=words(**{"1": ("in force", FINE), "0": ("mistake", OVER)}), thresholds=steps((1, FINE), base=OVER))),
        row(8,
            series("Lag over time", 12, prom("max(token_monitor_tail_lag_seconds)", t("lag")), "An alert fires at 120 s.", "s", legend="bottom", calcs=("lastNotNull", "max")),
            series("Rows by type", 12, prom("sum by (type) (rate(token_monitor_log_rows_total[$__rate_interval]))", t("type") + " {{type}}"), "Rows per second by new-api's number: 1 top-up, 2 consumption, 3 management, 4 system, 5 failure, 6 refund, 7 login.", "ops", step="1m", calcs=("mean", "max"))),
        row(8,
            series("Failed polls by reason", 8, prom("sum by (reason) (increase(token_monitor_tail_errors_total[$__rate_interval]))", "{{reason}}"), "What the database said. The runbook tells what to do for each reason.", bars=True, step="1m", legend="bottom", calcs=("max",)),
            series("Defects of rows", 8, prom("sum by (reason) (increase(token_monitor_row_defects_total[$__rate_interval]))", "{{reason}}"), "Rows of which a part could not be used. They are counted from what is left.", bars=True, step="1m", legend="bottom", calcs=("max",)),
            series("Late rows over time", 8, prom("sum(increase(token_monitor_late_rows_total[$__rate_interval]))", t("late rows")), "Rows that became visible out of order.", bars=True, step="1m", legend="bottom", calcs=("max",))),
        row(9,
            bars("Label sets by family", 8, prom("sort_desc(max by (family) (token_monitor_series))", "{{family}}", instant=True), "Label sets of each family. At MAX_SERIES, 2000 if not set, the rest is summed as _other.", "none", thresholds=steps((1500, WARNING), (2000, OVER), base="blue")),
            series("Beyond MAX_SERIES", 8, prom("sum by (family) (increase(token_monitor_series_overflow_total[$__rate_interval]))", "{{family}}"), "Additions to _other because a family was full. Raise MAX_SERIES or drop an extra label.", step="1m", legend="bottom", calcs=("max",)),
            prom_table("What this log can tell", 8, "max by (feature) (token_monitor_capability)", [word("feature", "Feature")],
                       "What this version of new-api records. error_log is missing until ERROR_LOG_ENABLED=true and a request fails.",
                       word("Value", "Available", width=120, cell="color-text", mappings=words(**{"1": ("yes", FINE), "0": ("no", WARNING)})))),
        section("The way of alerts, and what the monitor costs"),
        row(8,
            series("Calls of the webhook", 8, prom("sum by (result) (increase(token_monitor_webhooks_total[$__rate_interval]))", "{{result}}"), "What Alertmanager sent, by how it was taken. Unauthorized: the password in alertmanager.yml is another one.", bars=True, step="5m", legend="bottom", calcs=("max",)),
            series("Duration of a scrape", 8, prom("max(scrape_duration_seconds%s)" % job, t("duration")), "How long Prometheus waited for /metrics.", "s", legend="bottom", calcs=("mean", "max")),
            series("Samples of a scrape", 8, prom("max(scrape_samples_scraped%s)" % job, t("samples")), "How much /metrics shows: what the monitor costs Prometheus.", legend="bottom", calcs=("lastNotNull", "max"))),
        row(8,
            series("Scrapes that succeeded", 8, prom("avg_over_time(up%s[$__rate_interval])" % job, "{{instance}}"), "Below 100 %: the monitor was down or slow to answer.", "percentunit", legend="bottom", calcs=("mean",)),
            series("Messages waiting over time", 8, prom('max by (target) (token_monitor_outbox_pending) or on () label_replace(vector(0), "target", "–", "", "")', "{{target}}"), "Parts of messages that wait for a chat. A dash: no chat is set up.", legend="bottom", calcs=("lastNotNull", "max")),
            prom_table("Version", 8, "token_monitor_build_info", [word("instance", "Instance"), word("version", "Version", width=120)], "The monitor that runs.", drop=("__name__", "job"))),
    ], carried())


ALL = [overview, channels, performance, logs, log_detail, limits, self]
