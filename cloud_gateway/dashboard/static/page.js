// The page in motion: the stream tells what changed; tiles, table and charts show it. Nothing here
// becomes HTML except the gateway's own pages, which escape what devices say.
import { Charts } from "./charts.js";
import { DeviceTable } from "./table.js";
import { $, $$, count, escalated, grow, local, localTimes, percent, say, setNow, showAge, total } from "./words.js";

const QUIET_S = 5; // after so long without a word, what is shown is only what was
const charts = $("#requests") && new Charts();
const table = $("#devices") && new DeviceTable();
let heard = local(), id = document.body.dataset.id, wait = 1, stream, retry;

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

// One device's page is renewed part by part from the page itself: its words are written once.
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

function tick() {
  const lost = local() - heard > QUIET_S;
  document.body.classList.toggle("lost-now", lost);
  document.body.classList.toggle("following", !lost);
  if ($("#lost").hidden === lost) $("#lost").hidden = !lost;
  grow();
}

function hear(event) {
  const change = JSON.parse(event.data);
  heard = local();
  wait = 1;
  id = change.id;
  setNow(change.at);
  for (const element of $$("#pulse time, #lost time")) showAge(element, change.at);
  if (table) {
    fillTiles(change.summary);
    table.patch(change);
  } else if (charts) {
    if (change.fresh || change.devices.some((device) => device.name === charts.device)) renew();
  } else if (change.summary.total && $("#none-yet")) location.reload(); // the first device is here
  charts?.refresh();
  tick();
}

function follow() {
  stream = new EventSource(`/v1/fleet/events?after=${encodeURIComponent(id)}`);
  stream.addEventListener("snapshot", hear);
  stream.addEventListener("delta", hear);
  // A browser gives up for good on some errors, so each try is ours, with its own pause.
  stream.onerror = () => {
    stream.close();
    retry = setTimeout(follow, wait * 1000);
    wait = Math.min(10, wait * 1.6);
  };
}

// A page nobody sees asks for nothing; the gateway reads nothing when no page is seen.
document.addEventListener("visibilitychange", () => {
  stream.close();
  clearTimeout(retry);
  if (document.hidden) return;
  heard = Math.max(heard, local() - QUIET_S + 2); // two seconds to hear again before it is called lost
  follow();
});
setInterval(tick, 1000);
localTimes();
tick();
follow();
