// Keeps the board of orders up to date, and says on the page of one order that it changed: by Server-Sent Events, and
// without them by nothing else than the page as it was loaded.
"use strict";

const live = document.getElementById("live");
const told = document.getElementById("told");
const list = document.getElementById("board"); // null on the page of one order
const PAUSE = 400; // milliseconds between two looks at the list, however much happens
const LONGEST = 30000; // milliseconds between two tries to connect

let stream = null;
let seen = ""; // the id of the last message, from which to go on
let tries = 0;
let retry = 0;
let asking = false;
let asked = 0; // how often somebody wanted the list while it was being fetched
let over = false;
const news = new Map(); // by number: the states that were told of since the list was fetched

// ---- following

function follow() {
  clearTimeout(retry);
  if (stream || over || document.hidden) return;
  const after = seen ? "&after=" + encodeURIComponent(seen) : "";
  stream = new EventSource("/v1/shop/live?topic=" + encodeURIComponent(live.dataset.topic) + after);
  stream.onopen = () => {
    tries = 0;
    say("on");
    if (!seen) heard(null); // what happened between the page and the stream
  };
  stream.onmessage = (event) => {
    seen = event.lastEventId;
    heard(JSON.parse(event.data).data);
  };
  stream.addEventListener("resync", (event) => {
    seen = event.lastEventId;
    heard(null);
  });
  stream.addEventListener("gone", end);
  stream.onerror = lost;
}

function leave() {
  clearTimeout(retry);
  if (stream) stream.close();
  stream = null;
}

// The browser's own way to come back ends at the first answer that is no stream; ours goes on from the same place.
function lost() {
  leave();
  say("off");
  tries += 1;
  retry = setTimeout(again, Math.min(LONGEST, 500 * 2 ** tries) * (0.5 + Math.random() / 2));
}

async function again() {
  if (await fragment()) follow();
  else if (!over) lost();
}

function end() {
  over = true;
  leave();
  say("out");
}

function say(how) {
  live.hidden = false;
  live.dataset.is = how;
  if (live.textContent === live.dataset[how]) return;
  live.textContent = live.dataset[how];
}

// ---- what changed

// `null`: something may have happened, nobody knows what.
async function heard(change) {
  if (list) {
    if (change) news.set(change.number, change.state);
    refresh();
  } else if (change) {
    if (change.order_id === live.dataset.order) compare(change.version);
  } else {
    const fresh = await fragment();
    if (fresh) compare(fresh.querySelector("#live").dataset.version);
  }
}

function compare(version) {
  if (Number(version) > Number(live.dataset.version)) document.getElementById("changed").hidden = false;
}

async function refresh() {
  asked += 1;
  if (asking) return;
  asking = true;
  while (asked && !over) {
    asked = 0;
    const fresh = await fragment();
    if (fresh) put(fresh);
    await new Promise((go) => setTimeout(go, PAUSE));
  }
  asking = false;
}

// The list as it is now; null if nobody answers. Being led elsewhere means that one has to sign in.
async function fragment() {
  try {
    const reply = await fetch(live.dataset.from || location.href, { headers: { "HX-Request": "true" }, redirect: "manual" });
    if (reply.type === "opaqueredirect" || [401, 403, 404].includes(reply.status)) end();
    return reply.ok ? new DOMParser().parseFromString(await reply.text(), "text/html").body : null;
  } catch {
    return null;
  }
}

// Only what differs is replaced, so that what has the focus keeps it.
function put(fresh) {
  const rows = list.querySelector("tbody");
  const next = fresh.querySelector("tbody");
  const changed = rows && next ? exchange(rows, [...next.rows]) : [...(next ? next.rows : [])];
  if (rows && next) {
    counters(fresh);
    more(fresh);
  } else {
    list.replaceChildren(...fresh.childNodes);
  }
  announce(changed);
  news.clear();
}

// Puts the rows that are new or of another version in their places; returns these, and those that are here no more.
function exchange(rows, wanted) {
  const changed = [];
  const known = new Map([...rows.rows].map((row) => [row.id, row]));
  wanted.forEach((row, at) => {
    const old = known.get(row.id);
    known.delete(row.id);
    const same = old && old.dataset.version === row.dataset.version;
    const here = same ? old : row;
    if (!same) {
      const focused = old && old.contains(document.activeElement);
      row.classList.add("fresh");
      changed.push(row);
      if (old) old.replaceWith(row);
      if (focused) row.querySelector("a").focus();
    }
    if (rows.rows[at] !== here) rows.insertBefore(here, rows.rows[at] || null);
  });
  for (const row of known.values()) {
    row.remove();
    if (news.has(row.dataset.number)) changed.push(row);
  }
  return changed;
}

function counters(fresh) {
  for (const tab of fresh.querySelectorAll(".tabs [data-state]")) {
    const old = list.querySelector(`.tabs [data-state="${tab.dataset.state}"]`);
    if (old.innerHTML !== tab.innerHTML) old.replaceChildren(...tab.childNodes);
  }
}

function more(fresh) {
  const old = list.querySelector(".after");
  const next = fresh.querySelector(".after");
  if (old && next) old.querySelector("a").href = next.querySelector("a").href;
  else if (old) old.remove();
  else if (next) list.append(next);
}

function announce(rows) {
  if (!rows.length) return;
  const { number } = rows[0].dataset;
  const tab = list.querySelector(`.tabs [data-state="${news.get(number)}"]`);
  const state = tab ? tab.dataset.title : rows[0].querySelector(".tag").textContent;
  told.textContent =
    rows.length === 1
      ? told.dataset.one.replace("{number}", number).replace("{state}", state)
      : told.dataset.several.replace("{count}", rows.length);
}

// ---- while nobody looks there is no connection: browsers keep few of them

document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
window.addEventListener("pagehide", leave);
window.addEventListener("pageshow", follow);
window.addEventListener("online", follow);
window.addEventListener("offline", lost);
follow();
