// Two charts: answers by route as stacked bars, latency as lines on a log scale. A moment without
// records is a gap: not heard of is not zero. The legend says in text what the picture shows.
import { $, $$, UNKNOWN, count, local, utc } from "./words.js";

const uPlot = window.uPlot;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const short = (ms) => (ms < 10 ? ms.toFixed(1) : String(Math.round(ms)));
const milliseconds = (p50, p99) => (p50 == null ? UNKNOWN : `${short(p50)} / ${short(p99)} ms`);
const DECADES = [0.01, 0.1, 1, 10, 100, 1000, 10000];
const PLOT = 190; // pixels, as in page.css

export class Charts {
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
    const asked = this.minutes;
    const answer = await fetch(`/v1/fleet/series?minutes=${asked}&device=${encodeURIComponent(this.device)}`)
      .then((said) => (said.ok ? said.json() : null)).catch(() => null);
    this.loading = false;
    if (asked !== this.minutes) return this.load();
    if (!answer) return; // the stream says when the gateway is gone
    this.series = answer;
    this.draw();
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
        padding: [8, 26, 0, 0],
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
