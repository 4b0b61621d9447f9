// Numbers and times as the page says them (as in wording.py), and ages that grow.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const UNKNOWN = "unknown";
const OWN_S = 30; // a number whose data is older than this shows its own age in its cell

/** Seconds by this machine's steady clock. */
export const local = () => performance.now() / 1000;
let ahead = Number(document.body.dataset.now) - local(); // the gateway's clock minus ours
/** The gateway's clock: ages do not depend on what the viewer's machine believes. */
export const now = () => local() + ahead;
export const setNow = (at) => { ahead = at - local(); };

export function age(at) {
  const seconds = Math.max(0, now() - at);
  for (const [size, until, unit] of [[1, 60, "s"], [60, 3600, "min"], [3600, 86400, "h"]])
    if (seconds < until) return `${Math.floor(seconds / size)} ${unit}`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const count = (n) => (n == null ? UNKNOWN : n.toLocaleString("en-GB"));
export const percent = (share) => (share == null ? UNKNOWN : `${(share * 100).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`);
/** The moment in words no time zone changes; a device may claim any number to be a time. */
export function utc(at) {
  const date = new Date(at * 1000);
  return Number.isNaN(date.getTime()) ? UNKNOWN : date.toISOString().replace("T", " ").replace(/\.\d+Z/, " UTC");
}
export const total = (answers) => (answers ? answers.edge + answers.cloud + answers.provisional : null);
export const escalated = (answers) => (total(answers) ? answers.hard / total(answers) : null);

/** Set a text, and touch the page only when it differs. */
export function say(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** From now on `element` tells how long ago `at` was. */
export function showAge(element, at) {
  const text = at == null ? "" : String(at);
  if (element.dataset.age === text) return;
  element.dataset.age = text;
  element.title = at == null ? UNKNOWN : utc(at);
}

/** Let every age below `root` say what is true at this moment. */
export function grow(root = document) {
  for (const element of $$("time[data-age]", root)) {
    const at = element.dataset.age, own = element.classList.contains("own");
    if (own) element.hidden = !at || now() - at < OWN_S;
    if (at) say(element, age(at));
    else if (!own) say(element, UNKNOWN);
  }
}

/** Moments in the viewer's zone, UTC on hover. */
export function localTimes(root = document) {
  for (const element of $$("time[data-at]", root)) {
    const date = new Date(element.dataset.at * 1000);
    element.title = utc(element.dataset.at);
    const short = { hour: "2-digit", minute: "2-digit" };
    if (element.title === UNKNOWN) say(element, UNKNOWN);
    else say(element, element.dataset.as === "minute" ? date.toLocaleTimeString([], short) : date.toLocaleString());
  }
}
