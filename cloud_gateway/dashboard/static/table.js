// A list of any length of which only the rows in sight exist: a thousand rows would cost the
// browser ten times the work. Rows are clones of the template's, filled with text, never with HTML.
import { $, $$, UNKNOWN, count, escalated, grow, percent, say, showAge } from "./words.js";

const SPARE = 8; // rows kept above and below those in sight
const number = (id) => Number(id?.split("-").pop() || 0);

export class DeviceTable {
  constructor() {
    this.table = $("#devices");
    this.body = this.table.tBodies[0];
    this.blank = $("#row").content.querySelector("tr");
    this.window = { id: "", total: this.table.ariaRowCount - 1, offset: 0, devices: [] };
    this.rows = new Map();
    this.spaces = [this.space(), this.space()];
    $("#pager").hidden = true;
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => this.draw());
    this.followFilter();
    this.load(0);
  }

  space() {
    const row = document.createElement("tr");
    row.className = "space";
    row.ariaHidden = "true";
    row.append(document.createElement("td"));
    return row;
  }

  get query() {
    return new URLSearchParams([...new FormData($("#filter"))].filter(([, value]) => value));
  }

  /** Pixels of one row, all alike. */
  get height() {
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    return rem * parseFloat(getComputedStyle(this.table).getPropertyValue("--row"));
  }

  /** First and last row of the list that are in sight. */
  sight() {
    const top = this.body.getBoundingClientRect().top;
    return [Math.max(0, Math.floor(-top / this.height)), Math.max(0, Math.ceil((innerHeight - top) / this.height))];
  }

  /** Fetch the rows in sight, with a screen's worth before and after. */
  async load(first = this.sight()[0]) {
    if (this.loading) return void (this.again = true);
    this.loading = true;
    const screen = Math.ceil(innerHeight / this.height);
    const query = this.query;
    query.set("offset", Math.max(0, first - screen));
    query.set("limit", Math.min(500, 3 * screen));
    const answer = await fetch(`/v1/fleet?${query}`).then((said) => (said.ok ? said.json() : null)).catch(() => null);
    this.loading = false;
    if (!answer) return; // the stream says when the gateway is gone, and calls again when it is back
    this.window = answer;
    // What the stream told while the answer was on its way is not in it.
    const missed = this.again || number(answer.id) < number(this.told);
    this.again = false;
    this.table.ariaRowCount = answer.total + 1;
    say($("#total"), count(answer.total));
    $("#none").hidden = answer.total > 0;
    this.draw();
    if (missed) await this.load();
  }

  /** Take in what the stream told. */
  patch(change) {
    const size = this.size ?? this.window.total;
    this.told = change.id;
    this.size = change.summary.total;
    if (change.fresh) return void this.load();
    const at = new Map(this.window.devices.map((device, index) => [device.name, index]));
    for (const device of change.devices)
      if (at.has(device.name)) this.window.devices[at.get(device.name)] = device;
    // Under a filter or an order a change may move a row: the gateway, which knows the rule, says where.
    const fixed = [...this.query].every(([key, value]) => key === "sort" && value === "name");
    if (change.gone.length || size !== this.size || (change.devices.length && !fixed)) this.load();
    else this.draw();
  }

  draw() {
    const { total, offset, devices } = this.window;
    const [first, last] = this.sight();
    const from = Math.min(Math.max(0, first - SPARE), total), to = Math.min(total, last + SPARE);
    const begin = Math.max(from, offset), end = Math.max(begin, Math.min(to, offset + devices.length));
    const wanted = new Map();
    for (let index = begin; index < end; index++) {
      const device = devices[index - offset];
      const row = this.rows.get(device.name) ?? this.blank.cloneNode(true);
      fillRow(row, device, index + 2);
      wanted.set(device.name, row);
    }
    this.rows = wanted;
    this.put([this.spaces[0], ...wanted.values(), this.spaces[1]]);
    this.spaces[0].firstChild.style.height = `${begin * this.height}px`;
    this.spaces[1].firstChild.style.height = `${Math.max(0, total - end) * this.height}px`;
    if (Math.min(total, last) > end || (first < begin && total > first)) this.load();
  }

  /** Rows that stay are not touched: moving one would take the focus out of it. */
  put(rows) {
    const keep = new Set(rows);
    for (const row of [...this.body.rows]) if (!keep.has(row)) row.remove();
    let next = this.body.firstElementChild;
    for (const row of rows) {
      if (row === next) next = next.nextElementSibling;
      else this.body.insertBefore(row, next);
    }
  }

  followFilter() {
    const form = $("#filter");
    const go = () => {
      history.replaceState(null, "", `/?${this.query}`);
      this.load(0);
    };
    form.addEventListener("input", go);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      go();
    });
    this.table.tHead.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-sort]");
      if (!link || event.metaKey || event.ctrlKey) return;
      event.preventDefault();
      const { sort, descending } = form.elements;
      descending.value = sort.value === link.dataset.sort && !descending.value ? "true" : "";
      sort.value = link.dataset.sort;
      for (const th of $$("th[aria-sort]", this.table)) th.removeAttribute("aria-sort");
      link.parentElement.ariaSort = descending.value ? "descending" : "ascending";
      go();
    });
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
  grow(row);
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
