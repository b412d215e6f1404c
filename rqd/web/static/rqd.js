"use strict";
// Times in the viewer's zone, live pages, keys, the theme. Every page works without this file.
const root = document.body.dataset.root;
const byId = (id) => document.getElementById(id);

// -- times

const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function sinceNow(at) {
  const seconds = (at - Date.now()) / 1000;
  const [unit, length] = units.find(([, length]) => Math.abs(seconds) >= length) ?? units[3];
  return relative.format(Math.trunc(seconds / length), unit);
}

function showTimes() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const exact = absolute.format(at);
    // The page's time of day stays readable where it matters; tables have room for one of the two.
    const isInTable = time.closest("td, .many");
    const text = isInTable ? sinceNow(at) : exact;
    if (time.textContent !== text) time.textContent = text;
    time.title = isInTable ? exact : sinceNow(at);
  }
}

// -- live pages

let stream = null;
let streamOf = null;

function listen() {
  const address = byId("main")?.dataset.live;
  if (!address || document.hidden) return hangUp();
  if (stream && streamOf === address) return;
  hangUp();
  stream = new EventSource(address);
  streamOf = address;
  stream.addEventListener("page", (event) => { showAway(""); replaceMain(JSON.parse(event.data)); });
  stream.addEventListener("away", (event) => showAway(JSON.parse(event.data)));
  stream.onerror = () => {
    showAway("The dashboard does not answer. Trying again.");
    // A browser gives up by itself after an answer that is no stream.
    if (stream.readyState === EventSource.CLOSED) { hangUp(); setTimeout(listen, 5000); }
  };
}

function hangUp() {
  stream?.close();
  stream = streamOf = null;
}

function replaceMain(html) {
  const main = byId("main");
  // An open question, or a field with the cursor in it, is not moved under a hand.
  if (main.querySelector("details.sure[open]") || main.contains(document.activeElement) && document.activeElement.matches("input, select, textarea")) return;
  const fresh = new DOMParser().parseFromString(html, "text/html").getElementById("main");
  if (!fresh) return;
  const open = new Map([...main.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
  for (const one of fresh.querySelectorAll("details[id]")) if (open.has(one.id)) one.open = open.get(one.id);
  const said = main.querySelector(".said");
  if (said) fresh.prepend(said.cloneNode(true));
  const at = rows().indexOf(document.querySelector("tr.at"));
  const atEnd = follows().every(isAtEnd);
  htmx.swap({ target: main, text: fresh.innerHTML, swap: "innerMorph" });
  document.dispatchEvent(new Event("rqd:shown"));
  if (atEnd) showEnds();
  showTimes();
  if (at >= 0) rows()[at]?.classList.add("at");
}

// Output that grows stays at its end, unless the viewer has scrolled up.
const follows = () => [...document.querySelectorAll("pre[data-follow]")];
const isAtEnd = (pre) => pre.scrollHeight - pre.scrollTop - pre.clientHeight < 30;
const showEnds = () => follows().forEach((pre) => { pre.scrollTop = pre.scrollHeight; });

function showAway(text) {
  const away = byId("away");
  away.hidden = !text;
  if (away.textContent !== text) away.textContent = text;
  document.body.classList.toggle("stale", Boolean(text));
}

// A page of an error looks whether the server is back.
const again = document.querySelector("[data-again]");
if (again) {
  const look = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (answer.status !== 503) return location.reload();
    } catch { /* the dashboard itself is away */ }
    setTimeout(look, 3000);
  };
  setTimeout(look, 3000);
}

// -- keys

const rows = () => [...document.querySelectorAll("table.rows tbody tr")];
let isGoing = false;

function moveRow(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("at"));
  const next = Math.max(0, Math.min(all.length - 1, at < 0 ? 0 : at + step));
  all[at]?.classList.remove("at");
  all[next].classList.add("at");
  all[next].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (isGoing) {
    isGoing = false;
    document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`)?.click();
    return;
  }
  const filter = document.querySelector(".filter input[type=search], .find input");
  const does = {
    "?": () => byId("keys").showModal(),
    "g": () => { isGoing = true; setTimeout(() => { isGoing = false; }, 1500); },
    "j": () => moveRow(1),
    "k": () => moveRow(-1),
    "/": () => filter?.focus(),
    "Enter": () => event.target === document.body && document.querySelector("tr.at a")?.click(),
  }[event.key];
  if (does) {
    if (event.key !== "Enter") event.preventDefault();
    does();
  }
});

// -- the theme and the buttons that need this file

byId("theme").hidden = byId("keys-button").hidden = false;
byId("keys-button").addEventListener("click", () => byId("keys").showModal());
byId("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = isDark ? "light" : "dark";
  try { localStorage.setItem("rqd-theme", document.documentElement.dataset.theme); } catch { /* private */ }
});

showTimes();
showEnds();
setInterval(showTimes, 10000);
listen();
document.addEventListener("visibilitychange", listen);
window.addEventListener("pagehide", hangUp);
