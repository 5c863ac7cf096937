"""What boards are built from: a function for each kind of panel, query and variable.

Everything that Grafana 9.5 and 12 must be told for a panel to work stands here once, so that a panel in boards.py is a
few lines that say what it shows. Every text for people goes through t(), which looks it up in the dictionary of the
language that is being built; names of columns are such texts, and helpers use them on both sides of a match.
"""

API = {"type": "yesoreyeram-infinity-datasource", "uid": "${api}"}
PROMETHEUS = {"type": "prometheus", "uid": "${ds}"}

# What All is: Prometheus reads it as any value, the API as no filter. One name and one value on all boards, so filters
# travel with links.
ALL = ".*"
FILTER = 'channel_id=~"$channel_id",model=~"$model"'
WINDOW = {"from": "${__from}", "to": "${__to}"}
FILTERS = WINDOW | {"channel_id": "${channel_id:csv}", "model": "${model:csv}"}

# The filters that every board has, on some hidden, so that a link can take them along.
CARRIED = ("channel_id", "model", "group")

# Colours mean the same everywhere.
OVER, WARNING, FINE, PLAIN = "red", "orange", "green", "text"

# (name, link title): the ranges that people of this product know.
RANGES = [("1 h", "1h"), ("6 h", "6h"), ("24 h", "24h"), ("72 h", "72h")]


# ---- languages --------------------------------------------------------------------------------------------------------


class Language:
    """A dictionary that remembers what was asked of it."""

    def __init__(self, code, suffix, folder, words):
        self.code, self.suffix, self.folder, self.words = code, suffix, folder, words
        self.asked, self.missing = set(), set()

    def translate(self, text):
        self.asked.add(text)
        if self.words is None:
            return text
        if text not in self.words:
            self.missing.add(text)
        return self.words.get(text, text)


_language = None


def speak(language):
    global _language
    _language = language


def t(text):
    """The text in the language that is being built."""
    return _language.translate(text)


def uid(board):
    return board + _language.suffix


def tag():
    return "token-monitor" + _language.suffix


def to(board, query=""):
    """The address of another board of the same language."""
    return f"/d/{uid(board)}" + (f"?{query}" if query else "")


def kept(*names):
    """Variables as they are, for an address."""
    return "&".join(f"${{{name}:queryparam}}" for name in names)


# ---- queries ----------------------------------------------------------------------------------------------------------


class Column:
    """A column of an answer: where its value is, what it is called, how it looks."""

    def __init__(self, selector, text, kind="string", **look):
        self.selector, self.kind, self.look = selector, kind, look
        # Names in links and labels are no texts for people.
        self.text = text if look.get("plain") else t(text)

    def json(self):
        return {"selector": self.selector, "text": self.text, "type": self.kind}


def word(selector, text, **look):
    return Column(selector, text, "string", **look)


def number(selector, text, unit="short", **look):
    return Column(selector, text, "number", unit=unit, **look)


def time(selector, text, **look):
    return Column(selector, text, "timestamp", **({"width": 170} | look))


def hidden(selector, text):
    """A column that only links look at: its name is the same in every language."""
    return Column(selector, text, "string", plain=True, hidden=True)


def infinity(url, root, columns, params=None, form="table", ref="A"):
    pairs = [{"key": key, "value": value} for key, value in (params or {}).items()]
    return {
        "refId": ref,
        "type": "json",
        "source": "url",
        "parser": "backend",
        "format": form,
        "url": "/api/v1" + url,
        "url_options": {"method": "GET", "data": "", "params": pairs},
        "root_selector": root,
        "columns": [column.json() for column in columns],
        "filters": [],
    }


def api(url, root, columns, params=None, form="table", ref="A"):
    return {"datasource": API} | infinity(url, root, columns, params, form, ref)


def prom(expr, legend="", instant=False, table=False, heatmap=False, exemplar=False):
    """A query of Prometheus; refIds are given by the panel."""
    query = {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend or "__auto",
        "range": not (instant or table),
        "instant": instant or table,
    }
    if table:
        query["format"] = "table"
    if heatmap:
        query["format"] = "heatmap"
    if exemplar:
        query["exemplar"] = True
    return query


# ---- looks ------------------------------------------------------------------------------------------------------------


def steps(*pairs, base=FINE):
    """Thresholds: a base colour, then (value, colour)."""
    all_steps = [{"color": base, "value": None}] + [{"color": colour, "value": value} for value, colour in pairs]
    return {"mode": "absolute", "steps": all_steps}


def names(**texts):
    """Mappings of fixed values to a text, which is no judgement."""
    return words(**{value: (text, PLAIN) for value, text in texts.items()})


def words(**colours):
    """Mappings of fixed values to a text and a colour: words(firing=("firing", OVER))."""
    options = {
        value: {"text": t(text), "color": colour, "index": index}
        for index, (value, (text, colour)) in enumerate(colours.items())
    }
    return [{"type": "value", "options": options}]


def override(name, properties, matcher="byName"):
    return {
        "matcher": {"id": matcher, "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def link(title, url):
    return {"title": t(title), "url": url, "targetBlank": False}


def open_log(field="id"):
    """The link of a cell to the detail of its row."""
    query = f"var-log_id=${{__data.fields.{field}}}&${{__url_time_range}}&{kept(*CARRIED)}"
    return link("Open log", to("tm-log-detail", query))


def look_of(column, table):
    """The properties that a column's look comes to; widths and cells are a table's matter."""
    look, found = column.look, {}
    if column.kind == "number":
        found["unit"] = look.get("unit", "short")
    elif "unit" in look:
        found["unit"] = look["unit"]
    for key in ("decimals", "min", "max", "mappings", "thresholds"):
        if key in look:
            found[key] = look[key]
    if "thresholds" in look:
        found["color"] = {"mode": "thresholds"}
    if look.get("colour"):
        found["color"] = {"mode": "fixed", "fixedColor": look["colour"]}
    if look.get("links"):
        found["links"] = look["links"]
    if not table:
        return found
    if look.get("hidden"):
        return {"custom.hidden": True}
    if "width" in look:
        found["custom.width"] = look["width"]
    cell = look.get("cell")
    if cell == "gauge":
        found["custom.cellOptions"] = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
    elif cell == "background":
        found["custom.cellOptions"] = {"type": "color-background", "mode": "basic"}
    elif cell:
        found["custom.cellOptions"] = {"type": cell}
    return found


def overrides_of(columns, table):
    pairs = [(column, look_of(column, table)) for column in columns]
    return [override(column.text, found) for column, found in pairs if found]


def rows_coloured(columns):
    """The colours of mapped words, where each row of an answer is drawn as one part: Grafana looks for them under the
    name of the part."""
    options = [mapping["options"] for column in columns for mapping in column.look.get("mappings", ())]
    # Several values may have one word.
    colours = {one["text"]: one["color"] for values in options for one in values.values()}
    return [override(text, {"color": {"mode": "fixed", "fixedColor": colour}}) for text, colour in colours.items()]


def organize(columns, exclude=(), rename=None):
    return {
        "id": "organize",
        "options": {
            "excludeByName": {name: True for name in exclude},
            "indexByName": {name: index for index, name in enumerate(columns)},
            "renameByName": rename or {},
        },
    }


# ---- panels -----------------------------------------------------------------------------------------------------------


def panel(kind, title, w, targets, description, defaults=None, overrides=(), options=None, **more):
    targets = targets if isinstance(targets, list) else [targets]
    for target, letter in zip(targets, "ABCDEFGH"):
        target["refId"] = letter
    found = {
        "type": kind,
        "title": t(title),
        "description": t(description),
        "gridPos": {"w": w},
        "datasource": targets[0]["datasource"] if targets else API,
        "targets": targets,
        "fieldConfig": {"defaults": defaults or {}, "overrides": list(overrides)},
        "options": options or {},
    }
    return found | more


def stat(title, w, targets, description, unit="short", color=None, thresholds=None, graph=False, names=False,
         overrides=(), mappings=None, decimals=None, fields="", **more):
    """Large numbers. Without thresholds they are no judgement and have the colour of text."""
    defaults = {"unit": unit, "noValue": "–"}
    defaults["color"] = {"mode": "thresholds"} if thresholds else {"mode": "fixed", "fixedColor": color or PLAIN}
    if thresholds:
        defaults["thresholds"] = thresholds
    if mappings:
        defaults["mappings"] = mappings
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": fields, "values": False},
        "colorMode": "value",
        "graphMode": "area" if graph else "none",
        "textMode": "value_and_name" if names else "value",
        "justifyMode": "auto",
        "orientation": "auto",
    }
    if names:
        options |= {"orientation": "vertical", "text": {"titleSize": 14, "valueSize": 24}}
    return panel("stat", title, w, targets, description, defaults, overrides, options, **more)


def facts(title, w, url, root, columns, description, params=None, orientation="vertical"):
    """Several values of one answer side by side, words and numbers mixed."""
    for column in columns:
        # Else a name that is a number would be read as one, and an id become "143 K".
        if column.kind == "string":
            column.look.setdefault("unit", "string")
    found = stat(title, w, api(url, root, columns, params), description, names=True, fields="/.*/",
                 overrides=overrides_of(columns, table=False),
                 transformations=[organize([column.text for column in columns])])
    found["options"]["orientation"] = orientation
    return found


def change(title, w, measure, unit, description, params, bad=None, decimals=None, thresholds=None):
    """A total of the overview and how it changed. `bad` is the direction that deserves a colour: more or less; a total that
    is good or bad by itself has `thresholds`."""
    judged = {
        None: {"colour": PLAIN},
        "more": {"thresholds": steps((0.2, WARNING), (1, OVER), base=PLAIN)},
        "less": {"thresholds": steps((-0.5, WARNING), (-0.2, PLAIN), base=OVER)},
    }[bad]
    exact = {} if decimals is None else {"decimals": decimals}
    columns = [
        number("totals." + measure, "This period", unit, **({"thresholds": thresholds} if thresholds else {"colour": PLAIN}), **exact),
        number("change." + measure, "Change", "percentunit", decimals=1, **judged),
    ]
    found = facts(title, w, "/overview", "", columns, description, params)
    found["options"]["text"] = {"titleSize": 12, "valueSize": 24}
    return found


def series(title, w, targets, description, unit="short", bars=False, overrides=(), legend="right", calcs=("mean", "max"),
           step=None, name=None, lines=None, **more):
    """Curves over time, or stacked bars for shares."""
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False, "drawStyle": "line"}
    if bars:
        custom |= {"drawStyle": "bars", "fillOpacity": 80, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    defaults = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if name:
        defaults["displayName"] = name
    if lines:
        defaults["thresholds"] = lines
        custom["thresholdsStyle"] = {"mode": "dashed"}
    sort = {"mean": "Mean", "max": "Max", "lastNotNull": "Last *", "sum": "Total"}[calcs[0]]
    shown = {"displayMode": "table", "placement": legend, "showLegend": True, "calcs": list(calcs)}
    options = {"legend": shown | {"sortBy": sort, "sortDesc": True}, "tooltip": {"mode": "multi", "sort": "desc"}}
    if step:
        more["interval"] = step
    return panel("timeseries", title, w, targets, description, defaults, overrides, options, **more)


def percentiles():
    """The fixed colours of latency curves."""
    average = {"color": {"mode": "fixed", "fixedColor": "blue"}, "custom.lineStyle": {"dash": [6, 4], "fill": "dash"}}
    fixed = [("p50", FINE), ("p95", WARNING), ("p99", OVER)]
    return [override(name, {"color": {"mode": "fixed", "fixedColor": colour}}) for name, colour in fixed] + [
        override(t("average"), average)
    ]


def trend(title, w, measure, name, unit, description, params, by="model", **more):
    """A measure over time by model, channel or user, exact and from the log: it needs no past in Prometheus."""
    key = {"model": "model", "channel": "channel_name", "user": "username"}[by]
    columns = [
        Column("time", "time", "timestamp", plain=True),
        Column(key, "series", "string", plain=True),
        number(measure, name, unit),
    ]
    target = api("/trend", "items", columns, params | {"by": by}, form="timeseries")
    return series(title, w, target, description, unit, bars=True, name="${__field.labels.series}", calcs=("sum", "max"),
                  **more)


def parts(columns):
    """Options and overrides of a panel that draws each row of an answer as one part, named by its words."""
    value = next(column for column in columns if column.kind == "number")
    reduce = {"calcs": ["lastNotNull"], "fields": f"/^{value.text}$/", "values": True, "limit": 20}
    return value, reduce, overrides_of(columns, table=False) + rows_coloured(columns)


def donut(title, w, url, root, columns, description, params=None, legend="right"):
    value, reduce, overrides = parts(columns)
    options = {
        "pieType": "donut",
        "reduceOptions": reduce,
        "legend": {"displayMode": "table", "placement": legend, "showLegend": True, "values": ["value", "percent"]},
        "displayLabels": [],
        "tooltip": {"mode": "single", "sort": "none"},
    }
    defaults = {"unit": value.look["unit"], "color": {"mode": "palette-classic"}}
    # Else it would be the first ones of the answer, which are the most expensive.
    largest = {"id": "sortBy", "options": {"fields": {}, "sort": [{"field": value.text, "desc": True}]}}
    return panel("piechart", title, w, api(url, root, columns, params), description, defaults, overrides, options,
                 transformations=[largest])


def bars(title, w, target, description, unit, top=None, thresholds=None, decimals=None, columns=()):
    """Horizontal bars, one for each series; with the `columns` of the answer one for each row."""
    reduce, overrides = {"calcs": ["lastNotNull"], "fields": "", "values": False, "limit": 20}, ()
    if columns:
        _, reduce, overrides = parts(columns)
    options = {
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
        "namePlacement": "auto",
        "sizing": "auto",
        "minVizHeight": 16,
        "minVizWidth": 8,
        "reduceOptions": reduce,
    }
    defaults = {"unit": unit, "min": 0}
    if top is not None:
        defaults["max"] = top
    if decimals is not None:
        defaults["decimals"] = decimals
    defaults |= {"color": {"mode": "thresholds"}, "thresholds": thresholds or steps(base="blue")}
    return panel("bargauge", title, w, target, description, defaults, overrides, options)


def heatmap(title, w, expr, description):
    options = {
        "calculate": False,
        "yAxis": {"unit": "s", "axisPlacement": "left", "reverse": False},
        "color": {"mode": "scheme", "scheme": "Oranges", "scale": "exponential", "exponent": 0.5, "steps": 64,
                  "fill": "dark-orange", "reverse": False},
        "filterValues": {"le": 1e-9},
        "cellGap": 1,
        "legend": {"show": True},
        "tooltip": {"show": True, "yHistogram": False},
        "rowsFrame": {"layout": "auto"},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
    }
    return panel("heatmap", title, w, prom(expr, "{{le}}", heatmap=True), description, {"unit": "short"}, (), options, interval="5m")


def table_options(paging=False):
    footer = {"show": False, "reducer": ["sum"], "fields": ""}
    found = {"showHeader": True, "cellHeight": "sm", "footer": footer}
    if paging:
        found["enablePagination"] = footer["enablePagination"] = True
    return found


TABLE = {"align": "auto", "minWidth": 70, "cellOptions": {"type": "auto"}, "filterable": False}


def table(title, w, url, root, columns, description, params=None, filterable=False, **more):
    """Rows of an answer of the API, with the columns in this order."""
    custom = TABLE | {"filterable": filterable}
    return panel("table", title, w, api(url, root, columns, params), description, {"custom": custom},
                 overrides_of(columns, table=True), table_options(),
                 transformations=[organize([column.text for column in columns])], **more)


def prom_table(title, w, expr, columns, description, value=None, drop=(), **more):
    """Series of an instant query as rows: label -> column, and the value if it says something."""
    names = {column.selector: column.text for column in columns}
    if value:
        names["Value"] = value.text
    shown = list(columns) + ([value] if value else [])
    exclude = ["Time"] + ([] if value else ["Value"]) + list(drop)
    return panel("table", title, w, prom(expr, table=True), description, {"custom": TABLE},
                 overrides_of(shown, table=True), table_options(),
                 transformations=[organize(list(names), exclude, names)], **more)


def matrix(title, w, expr, row, column, description, unit, decimals=None, thresholds=None):
    """Two labels against each other."""
    group = {"rowField": row, "columnField": column, "valueField": "Value"}
    defaults = {"unit": unit, "noValue": "·", "custom": TABLE}
    if decimals is not None:
        defaults["decimals"] = decimals
    first = override(f"{row}\\{column}", {"custom.width": 220, "displayName": t("Model")})
    return panel("table", title, w, prom(expr, table=True), description, defaults, [first], table_options(),
                 transformations=[{"id": "groupingToMatrix", "options": group}])


def timeline(title, w, expr, legend, mappings, description):
    options = {
        "showValue": "never",
        "mergeValues": True,
        "rowHeight": 0.85,
        "alignValue": "left",
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    }
    # Thresholds would ignore the mappings.
    defaults = {"unit": "none", "color": {"mode": "palette-classic"}, "mappings": mappings,
                "custom": {"lineWidth": 0, "fillOpacity": 70}}
    return panel("state-timeline", title, w, prom(expr, legend), description, defaults, (), options, maxDataPoints=300)


def code(title, w, variable, description):
    """Text of a hidden variable, coloured as JSON."""
    options = {"mode": "code", "content": f"${{{variable}:raw}}",
               "code": {"language": "json", "showLineNumbers": False, "showMiniMap": False}}
    return panel("text", title, w, [], description, None, (), options)


# ---- variables --------------------------------------------------------------------------------------------------------


def source_variable(name, label, kind, regex):
    return {"type": "datasource", "name": name, "label": label, "query": kind, "regex": regex, "hide": 2,
            "skipUrlSync": True, "multi": False, "includeAll": False, "refresh": 1, "options": [], "current": {}}


SOURCES = [
    source_variable("ds", "Prometheus", "prometheus", "/Token Monitor/"),
    source_variable("api", "API", "yesoreyeram-infinity-datasource", "/^Token Monitor API$/"),
]


def chosen_of_many():
    return {"hide": 0, "multi": True, "includeAll": True, "allValue": ALL,
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]}, "options": []}


def from_api(name, label, url, root, text, value, params=None, hide=False):
    """A variable whose values the API tells; a hidden one holds one value that panels need."""
    columns = [Column(text, "__text", plain=True), Column(value, "__value", plain=True)]
    query = infinity(url, root, columns, params, ref="variable")
    found = {"type": "query", "name": name, "label": t(label) if label else name, "datasource": API,
             "query": {"queryType": "infinity", "query": "", "infinityQuery": query}, "definition": "", "regex": ""}
    if hide:
        return found | {"refresh": 1, "sort": 0, "hide": 2, "multi": False, "includeAll": False, "current": {},
                        "options": [], "skipUrlSync": True}
    return found | {"refresh": 2, "sort": 1} | chosen_of_many()


def from_prometheus(name, label, query):
    return {"type": "query", "name": name, "label": t(label), "datasource": PROMETHEUS,
            "query": {"query": query, "refId": "StandardVariableQuery"}, "definition": query, "refresh": 2, "regex": "",
            "sort": 1} | chosen_of_many()


def textbox(name, label, default="", hide=False):
    return {"type": "textbox", "name": name, "label": t(label), "query": default,
            "current": {"selected": False, "text": default, "value": default},
            "options": [{"selected": True, "text": default, "value": default}], "hide": 2 if hide else 0}


def custom(name, label, pairs, many=False):
    """A choice among fixed values: (text, value). With many, All comes before them."""
    pairs = [(t(text), value) for text, value in pairs]
    found = {"type": "custom", "name": name, "label": t(label),
             "query": ",".join(f"{text} : {value}" for text, value in pairs)}
    options = [{"selected": False, "text": text, "value": value} for text, value in pairs]
    if many:
        return found | chosen_of_many() | {"options": options}
    options[0]["selected"] = True
    return found | {"hide": 0, "multi": False, "includeAll": False, "current": options[0], "options": options}


def channel_variable():
    return from_api("channel_id", "Channel", "/channels", "items", "channel_name", "channel_id", WINDOW)


def model_variable():
    params = WINDOW | {"channel_id": "${channel_id:csv}"}
    return from_api("model", "Model", "/overview", "by_model", "model", "model", params)


def group_variable():
    return from_prometheus("group", "Group", "label_values(newapi_model_enabled_channels, group)")


def carried(*shown):
    """The filters that all boards share: those that this board offers, and the others hidden, so that they are still there
    on the next board."""
    made = {"channel_id": channel_variable, "model": model_variable, "group": group_variable}
    return [made[name]() | ({} if name in shown else {"hide": 2}) for name in CARRIED]


# ---- boards -----------------------------------------------------------------------------------------------------------


def row(height, *panels):
    return height, list(panels)


def section(title):
    return 1, [{"type": "row", "title": t(title), "collapsed": False, "panels": [], "gridPos": {"w": 24}}]


def incidents_annotation():
    # Without timeEnd: an incident that goes on has none, and Grafana 12 stops drawing then.
    columns = [
        Column("started_at", "time", "timestamp", plain=True),
        Column("rule", "title", plain=True),
        Column("annotations.summary", "text", plain=True),
        Column("severity", "tags", plain=True),
    ]
    query = infinity("/incidents", "items", columns, WINDOW | {"limit": "500"}, ref="Anno")
    return {"name": t("Incidents"), "datasource": API, "enable": True, "hide": False, "iconColor": OVER, "target": query}


def board(name, title, rows, variables, refresh="30s", annotations=()):
    """Lays the rows out from top to bottom and their panels from left to right."""
    panels, y = [], 0
    for height, members in rows:
        x = 0
        for member in members:
            place = {"x": x, "y": y, "w": member["gridPos"]["w"], "h": height}
            panels.append(member | {"id": len(panels) + 1, "gridPos": place})
            x += place["w"]
        if x != 24:
            raise SystemExit(f"{name}: the row at {y} is {x} wide, not 24")
        y += height
    plain = {"asDropdown": False, "icon": "", "tags": [], "targetBlank": False, "tooltip": "", "includeVars": True}
    menu = plain | {"type": "dashboards", "title": "Token Monitor", "tags": [tag()], "asDropdown": True,
                    "keepTime": True, "icon": "external link", "url": ""}
    # A page that was turned to is none of another range: there, everything else is named.
    own = [variable["name"] for variable in variables if variable["name"] != "cursor"]
    paged = len(own) < len(variables)
    rest = f"&{kept(*own)}&var-cursor=" if paged else ""
    ranges = [
        plain | {"type": "link", "title": text, "keepTime": False, "includeVars": not paged,
                 "url": to(name, f"from=now-{length}&to=now{rest}")}
        for text, length in RANGES
    ]
    quick = [{"display": t("Last " + text), "from": f"now-{length}", "to": "now"} for text, length in RANGES]
    built_in = {"builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": True, "hide": True,
                "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard"}
    return {
        "id": None,
        "uid": uid(name),
        "title": t(title),
        "tags": [tag()],
        "schemaVersion": 38,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": refresh,
        "time": {"from": "now-24h", "to": "now"},
        "timezone": "",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "timepicker": {"refresh_intervals": ["10s", "30s", "1m", "5m"], "quick_ranges": quick},
        "links": [menu] + ranges,
        "annotations": {"list": [built_in] + list(annotations)},
        "templating": {"list": SOURCES + list(variables)},
        "panels": panels,
    }
