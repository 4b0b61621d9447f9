// The page in motion: ages that grow, a table that holds only the rows in sight, two charts, and
// the stream that tells what changed. Words and markup are those of the templates; nothing here is
// put into the page as HTML except the gateway's own pages, which escape what devices say.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const UNKNOWN = "unknown";

// --- Time and words (as in wording.py) ---------------------------------------------------------

const local = () => performance.now() / 1000;
let ahead = Number(document.body.dataset.now) - local(); // gateway's clock minus ours
const now = () => local() + ahead;

function age(at) {
  const seconds = Math.max(0, now() - at);
  for (const [size, until, unit] of [[1, 60, "s"], [60, 3600, "min"], [3600, 86400, "h"]])
    if (seconds < until) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds / 86400)} d`;
}
const count = (n) => (n == null ? UNKNOWN : n.toLocaleString("en-GB"));
const percent = (share) => (share == null ? UNKNOWN : `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);
const utc = (at) => new Date(at * 1000).toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
const total = (answers) => answers && answers.edge + answers.cloud + answers.provisional;
const escalated = (answers) => (total(answers) ? answers.hard / total(answers) : null);
const OWN_S = 30; // a number older than its row by more than this shows its own age

function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function tick() {
  for (const element of $$("time[data-age]")) {
    const at = element.dataset.age;
    if (element.classList.contains("own")) element.hidden = !at || now() - at < OWN_S;
    if (at) say(element, age(at));
    else if (!element.classList.contains("own")) say(element, UNKNOWN);
  }
  lost(local() - heard > QUIET_S);
}

function showAge(element, at) {
  const text = at == null ? "" : String(at);
  if (element.dataset.age === text) return;
  element.dataset.age = text;
  element.title = at == null ? UNKNOWN : utc(at);
}

function localTimes(root = document) {
  for (const element of $$("time[data-at]", root)) {
    const date = new Date(element.dataset.at * 1000);
    element.title = utc(element.dataset.at);
    const short = { hour: "2-digit", minute: "2-digit" };
    say(element, element.dataset.as === "minute" ? date.toLocaleTimeString([], short) : date.toLocaleString());
  }
}

// --- Tiles -------------------------------------------------------------------------------------

function fillTiles(summary) {
  const of = (counts, name) => count(counts.find((one) => one.name === name).count);
  const answers = summary.answers;
  const said = {
    total: count(summary.total), requests: count(total(answers)), escalated: percent(escalated(answers)),
    edge: count(answers?.edge), cloud: count(answers?.cloud), provisional: count(answers?.provisional),
    hard: count(answers?.hard), waiting: count(summary.escalations_waiting), pending: count(summary.pending),
  };
  for (const name of ["live", "silent", "unknown", "never"]) said[name] = of(summary.states, name);
  for (const name of ["behind", "owing", "refusing"]) said[name] = of(summary.marks, name);
  for (const element of $$("[data-slot]")) say(element, said[element.dataset.slot]);
  for (const element of $$("[data-slot-age]")) showAge(element, summary[element.dataset.slotAge]);
  for (const element of $$("[data-slot-at]")) element.dataset.at = summary[element.dataset.slotAt];
  localTimes($(".tiles"));
}

// --- The table: only the rows in sight exist ---------------------------------------------------

const LIMIT = 120, SPARE = 8;

class DeviceTable {
  constructor(table) {
    this.body = table.tBodies[0];
    this.table = table;
    this.blank = this.body.rows[0]?.cloneNode(true);
    this.window = { total: Number(table.ariaRowCount) - 1, offset: 0, devices: [] };
    this.rows = new Map();
    this.spaces = [0, 1].map(() => {
      const row = document.createElement("tr");
      row.className = "space";
      row.ariaHidden = "true";
      row.append(document.createElement("td"));
      return row;
    });
    $("#pager").hidden = true;
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw());
  }

  get query() {
    return new URLSearchParams([...new FormData($("#filter"))].filter(([, value]) => value));
  }

  get height() {
    return parseFloat(getComputedStyle(this.table).getPropertyValue("--row")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  async load(offset = this.window.offset) {
    if (this.loading) return void (this.again = true);
    this.loading = true;
    const query = this.query;
    query.set("offset", Math.max(0, offset));
    query.set("limit", LIMIT);
    try {
      const answer = await fetch(`/v1/fleet?${query}`);
      if (answer.ok) this.window = await answer.json();
    } catch { /* the stream says when the gateway is gone, and comes back first */ }
    this.loading = false;
    if (this.again) {
      this.again = false;
      return this.load(this.first());
    }
    this.table.ariaRowCount = this.window.total + 1;
    say($("#total"), count(this.window.total));
    $("#none").hidden = this.window.total > 0;
    this.draw();
  }

  patch(change) {
    const at = new Map(this.window.devices.map((device, index) => [device.name, index]));
    for (const device of change.devices)
      if (at.has(device.name)) this.window.devices[at.get(device.name)] = device;
    // Under a filter or an order, a change may move a row: the gateway, who knows the rule, says where.
    const moved = change.devices.length && ([...this.query.keys()].some((key) => key !== "sort") || this.query.get("sort") !== "name");
    if (moved || change.gone.length || (this.fleet ?? change.summary.total) !== change.summary.total) this.load(this.first());
    else this.draw();
    this.fleet = change.summary.total;
  }

  first() {
    return Math.max(0, Math.floor(-this.body.getBoundingClientRect().top / this.height) - LIMIT / 3 | 0);
  }

  draw() {
    const { total, offset, devices } = this.window;
    const top = this.body.getBoundingClientRect().top;
    const from = Math.min(Math.max(0, Math.floor(-top / this.height) - SPARE), Math.max(0, total - 1));
    const to = Math.min(total, Math.ceil((innerHeight - top) / this.height) + SPARE);
    const begin = Math.max(from, offset), end = Math.min(to, offset + devices.length);
    if ((from < offset || to > offset + devices.length) && to > from && devices.length < total) this.load(this.first());
    const wanted = new Map();
    for (let index = begin; index < end; index++) {
      const device = devices[index - offset];
      const row = this.rows.get(device.name) ?? this.blank.cloneNode(true);
      fillRow(row, device, index + 2);
      wanted.set(device.name, row);
    }
    this.rows = wanted;
    // Rows that stay are not touched: moving one would take the focus out of it.
    const order = [this.spaces[0], ...wanted.values(), this.spaces[1]], keep = new Set(order);
    for (const row of [...this.body.rows]) if (!keep.has(row)) row.remove();
    let next = this.body.firstChild;
    for (const row of order) {
      while (next && next.nodeType !== Node.ELEMENT_NODE) next = next.nextSibling;
      if (row === next) next = next.nextSibling;
      else this.body.insertBefore(row, next);
    }
    const drawn = Math.max(begin, end);
    this.spaces[0].style.height = `${(begin < end ? begin : 0) * this.height}px`;
    this.spaces[1].style.height = `${(total - (begin < end ? drawn : 0)) * this.height}px`;
  }
}

function fillRow(row, device, index) {
  if (row.device === device && row.ariaRowIndex === String(index)) return;
  row.device = device;
  row.ariaRowIndex = index;
  row.dataset.state = device.state;
  const page = `/devices/${encodeURIComponent(device.name)}`;
  const cell = (name) => row.getElementsByClassName(name)[0];
  const name = cell("name").firstElementChild;
  say(name, device.name);
  name.title = device.name;
  name.href = page;
  const state = cell("state");
  state.dataset.state = device.state;
  state.lastChild.nodeValue = device.state;
  showAge($("time", cell("contact")), device.contact_at);
  const live = device.state === "live";
  say(cell("link"), live ? device.link : UNKNOWN);
  cell("link").title = live || !device.link ? "" : `was ${device.link}`;
  say(cell("task"), device.tasks.map((task) => task.task).join(", ") || UNKNOWN);
  fillVersions(cell("version"), device.tasks);
  for (const [column, text, at] of [
    ["escalated", percent(escalated(device.answers)), device.records_at],
    ["pending", count(device.pending), device.said_at],
    ["waiting", count(device.escalations_waiting), device.said_at],
  ]) {
    say($(".figure", cell(column)), text);
    showAge($(".own", cell(column)), at);
  }
  const refused = cell("refused").firstElementChild;
  say(refused, count(device.said_at == null ? null : device.refusals.length));
  refused.toggleAttribute("data-none", !device.refusals.length);
  refused.href = `${page}#refusals`;
  refused.title = device.refusals.map((refusal) => refusal.reason).join("; ");
  for (const time of $$("time", row)) if (time.dataset.age) say(time, age(time.dataset.age));
}

function fillVersions(cell, tasks) {
  const said = tasks.map((task) => [task.version ?? UNKNOWN, task.desired && task.desired !== task.version ? task.desired : null]);
  if (cell.said === JSON.stringify(said)) return;
  cell.said = JSON.stringify(said);
  cell.replaceChildren(...said.flatMap(([version, desired], index) => {
    const parts = [index ? `, ${version}` : version];
    if (desired) {
      const mark = document.createElement("em");
      mark.title = `${desired} is desired and not loaded`;
      mark.textContent = `→ ${desired}`;
      parts.push(" ", mark);
    }
    return parts;
  }));
  if (!tasks.length) cell.textContent = UNKNOWN;
}

function followFilter(table) {
  const form = $("#filter");
  const go = () => {
    history.replaceState(null, "", `/?${table.query}`);
    table.load(0);
  };
  form.addEventListener("input", go);
  form.addEventListener("submit", (event) => { event.preventDefault(); go(); });
  $("thead", table.table).addEventListener("click", (event) => {
    const link = event.target.closest("a[data-sort]");
    if (!link || event.metaKey || event.ctrlKey) return;
    event.preventDefault();
    const same = form.sort.value === link.dataset.sort;
    form.descending.value = same && !form.descending.value ? "true" : "";
    form.sort.value = link.dataset.sort;
    for (const th of $$("th[aria-sort]", table.table)) th.removeAttribute("aria-sort");
    link.parentElement.ariaSort = form.descending.value ? "descending" : "ascending";
    go();
  });
}

// --- Charts ------------------------------------------------------------------------------------

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const short = (ms) => (ms < 10 ? ms.toFixed(1) : String(Math.round(ms)));
const milliseconds = (p50, p99) => (p50 == null ? UNKNOWN : `${short(p50)} / ${short(p99)} ms`);
const DECADES = [0.01, 0.1, 1, 10, 100, 1000, 10000];
const PLOT = 190; // pixels, as in page.css

class Charts {
  constructor() {
    this.device = $("#requests").dataset.device;
    this.minutes = Number($(".spans [aria-pressed=true]").dataset.minutes);
    $(".spans").addEventListener("click", (event) => {
      if (!event.target.dataset.minutes) return;
      this.minutes = Number(event.target.dataset.minutes);
      for (const button of $$(".spans button")) button.ariaPressed = String(button === event.target);
      this.load();
    });
    const redraw = () => { this.plots = null; this.draw(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(() => {
      for (const plot of this.plots ?? []) plot.setSize({ width: plot.root.parentElement.clientWidth, height: PLOT });
    }).observe($("#requests .plot"));
    this.load();
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    this.asked = local();
    try {
      const answer = await fetch(`/v1/fleet/series?minutes=${this.minutes}&device=${encodeURIComponent(this.device)}`);
      if (answer.ok) this.series = await answer.json();
    } catch { /* the stream says when the gateway is gone */ }
    this.loading = false;
    if (this.series) this.draw();
  }

  // A chart of a day need not move every second.
  refresh() {
    if (local() - this.asked > Math.max(1, (this.series?.step_s ?? 5) / 5)) this.load();
  }

  // One column per moment from `since` to now; a moment without records is null, not zero.
  columns() {
    const { since, at, step_s: step, buckets } = this.series;
    const known = new Map(buckets.map((bucket) => [bucket.start, bucket]));
    const moments = [];
    for (let start = since; start < at; start += step) moments.push(start);
    this.buckets = moments.map((start) => known.get(start));
    const column = (pick) => this.buckets.map((bucket) => (bucket ? pick(bucket) : null));
    const middle = moments.map((start) => start + step / 2);
    return [
      // Stacked by drawing the tallest first.
      [middle, column((b) => b.edge + b.cloud + b.provisional), column((b) => b.edge + b.cloud), column((b) => b.edge)],
      [middle, column((b) => b.edge_p50_ms), column((b) => b.edge_p99_ms), column((b) => b.cloud_p50_ms), column((b) => b.cloud_p99_ms)],
    ];
  }

  draw() {
    const data = this.columns();
    const empty = !this.series.buckets.length;
    for (const id of ["#requests", "#latency"]) {
      $(".plot", $(id)).hidden = empty;
      $(".nothing", $(id)).hidden = !empty;
    }
    if (empty) {
      this.plots = null;
      for (const plot of $$(".plot")) plot.replaceChildren();
    } else if (this.plots) this.plots.forEach((plot, index) => plot.setData(data[index]));
    else this.plots = this.make(data);
    this.legend(null);
  }

  make(data) {
    const axis = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    const bars = (route) => ({ fill: colour(route), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.86, 24] }) });
    const line = (route, dash) => ({ stroke: colour(route), width: 1.75, dash, points: { show: true, size: 4, fill: colour(route) } });
    const clock = (plot, splits) => splits.map((at) => new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(this.minutes <= 5 ? { second: "2-digit" } : {}) }));
    const make = (id, series, { axis: own, ...y }) => {
      const plot = $(`${id} .plot`);
      plot.replaceChildren();
      return new uPlot({
        width: plot.clientWidth, height: PLOT, legend: { show: false }, series: [{}, ...series],
        padding: [8, 8, 0, 0],
        scales: { x: { time: true, range: () => [this.series.since, this.series.at] }, y },
        axes: [{ ...axis, grid: { show: false }, space: 90, size: 26, values: clock }, { ...axis, size: 52, space: 34, ...own }],
        cursor: { y: false, points: { show: false }, drag: { x: false }, sync: { key: "time" } },
        hooks: { setCursor: [(u) => this.legend(u.cursor.idx)] },
      }, data[id === "#requests" ? 0 : 1], plot);
    };
    return [
      make("#requests", [bars("provisional"), bars("cloud"), bars("edge")], {
        range: (u, low, high) => [0, Math.max(5, high * 1.08)],
        axis: { values: (u, splits) => splits.map((n) => (Number.isInteger(n) ? count(n) : "")) },
      }),
      make("#latency", [line("edge"), line("edge", [3, 3]), line("cloud"), line("cloud", [3, 3])], {
        distr: 3,
        range: (u, low, high) => uPlot.rangeLog(low ?? 1, high ?? 100, 10, true),
        axis: { splits: (u, index, low, high) => DECADES.filter((n) => n >= low && n <= high), values: (u, splits) => splits.map((n) => `${n} ms`) },
      }),
    ];
  }

  // The bucket under the pointer, else the newest one that is over.
  legend(index) {
    const { step_s: step, at, since } = this.series;
    index ??= this.buckets.findLastIndex((bucket, i) => bucket && since + (i + 1) * step <= at);
    const bucket = this.buckets[index];
    const when = bucket ? `${step < 60 ? `${step} s` : `${step / 60} min`} from ${new Date((since + index * step) * 1000).toLocaleTimeString()}` : "";
    const entry = (key, words, value) => {
      const item = document.createElement("li"), mark = document.createElement("i"), figure = document.createElement("b");
      mark.className = `key ${key}`;
      figure.textContent = value;
      item.append(mark, `${words} `, figure);
      return item;
    };
    const last = () => {
      const item = document.createElement("li");
      item.className = "when";
      item.textContent = when;
      if (bucket) item.title = utc(since + index * step);
      return item;
    };
    $("#requests .legend").replaceChildren(
      ...["edge", "cloud", "provisional"].map((route) => entry(route, route, count(bucket?.[route]))), last());
    $("#latency .legend").replaceChildren(
      ...["edge", "cloud"].map((route) => entry(route, route, milliseconds(bucket?.[`${route}_p50_ms`], bucket?.[`${route}_p99_ms`]))), last());
  }
}

// --- One device's page: the gateway's own HTML, part by part ------------------------------------

async function renew() {
  const answer = await fetch(location.pathname).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  localTimes(page);
  for (const part of $$("[data-live]")) {
    const fresh = $(`[data-live="${part.dataset.live}"]`, page);
    if (fresh && fresh.innerHTML !== part.innerHTML) part.replaceChildren(...fresh.childNodes);
  }
  tick();
}

// --- The stream --------------------------------------------------------------------------------

const QUIET_S = 5;
let heard = local(), id = document.body.dataset.id, wait = 1;

function lost(isLost) {
  document.body.classList.toggle("lost-now", isLost);
  document.body.classList.toggle("following", !isLost);
  if ($("#lost").hidden === isLost) $("#lost").hidden = !isLost;
}

function follow(told) {
  const stream = new EventSource(`/v1/fleet/events?after=${encodeURIComponent(id)}`);
  const hear = (event) => {
    const change = JSON.parse(event.data);
    heard = local();
    wait = 1;
    id = change.id;
    ahead = change.at - local();
    for (const element of $$("#pulse time, #lost time")) showAge(element, change.at);
    told(change);
    tick();
  };
  stream.addEventListener("snapshot", hear);
  stream.addEventListener("delta", hear);
  // A browser gives up for good on some errors: so each try is ours, with its own pause.
  stream.onerror = () => {
    stream.close();
    setTimeout(() => follow(told), wait * 1000);
    wait = Math.min(10, wait * 1.6);
  };
}

const charts = $("#requests") && new Charts();
const table = $("#devices") && new DeviceTable($("#devices"));
localTimes();
if (table) {
  followFilter(table);
  table.load(0);
}
follow((change) => {
  if (table) {
    fillTiles(change.summary);
    change.fresh ? table.load(table.first()) : table.patch(change);
  } else if (charts) {
    if (change.fresh || change.devices.some((device) => device.name === charts.device)) renew();
  } else if (change.summary.total) location.reload(); // the first device has come
  charts?.refresh();
});
setInterval(tick, 1000);
tick();
