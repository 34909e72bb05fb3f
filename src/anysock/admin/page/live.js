"use strict";
// The live page: it shows what /events tells once a second, and asks for nothing else.

const $ = (id) => document.getElementById(id);
const PAGE = 50;
const MINUTES = 10;

const state = {sort: "seconds", order: "desc", filter: "", first: 0};
let feed = null;
let last = null;
const samples = [];

// -- words ------------------------------------------------------------------------------------

function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}
const rate = (bytes) => (bytes === null || bytes === undefined ? "–" : `${size(bytes)}/s`);
const count = (number) => (number >= 100 ? Math.round(number) : Math.round(number * 10) / 10).toLocaleString("en");

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1000).toPrecision(3)} ms`;
  return `${value.toFixed(1)} s`;
}

function age(value) {
  const whole = Math.floor(value);
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes) return `${minutes} min ${whole % 60} s`;
  return `${value < 10 ? value.toFixed(1) : whole} s`;
}

function element(name, text, ...classes) {
  const made = document.createElement(name);
  // As text, never as HTML: it is what others have sent.
  if (text !== undefined) made.textContent = text;
  made.classList.add(...classes.filter(Boolean));
  return made;
}

// -- the table --------------------------------------------------------------------------------

const COLUMNS = [
  ["peer", "peer", (row) => row.peer],
  ["via", "via", (row) => row.via ?? "–"],
  ["tls", "TLS", (row) => row.tls ?? "–"],
  ["seconds", "age", (row) => age(row.seconds), "number"],
  ["bytes_in", "in", (row) => size(row.bytes_in), "number"],
  ["bytes_out", "out", (row) => size(row.bytes_out), "number"],
  ["rate_in", "in/s", (row) => rate(row.rate_in), "number"],
  ["rate_out", "out/s", (row) => rate(row.rate_out), "number"],
  ["waits_for", "waits for", (row) => row.waits_for],
];

function heads() {
  for (const [key, text, , kind] of COLUMNS) {
    const head = element("th", undefined, kind);
    const button = element("button", text);
    button.type = "button";
    button.addEventListener("click", () => {
      if (state.sort === key) state.order = state.order === "desc" ? "asc" : "desc";
      else Object.assign(state, {sort: key, order: kind ? "desc" : "asc"});
      state.first = 0;
      connect();
    });
    head.dataset.key = key;
    head.append(button);
    $("heads").append(head);
  }
  $("heads").append(element("th", ""));
}

function showTable(found) {
  for (const head of $("heads").children) {
    const [, text] = COLUMNS.find(([key]) => key === head.dataset.key) ?? [];
    if (!text) continue;
    const sorted = head.dataset.key === state.sort;
    head.firstChild.textContent = sorted ? `${text} ${state.order === "desc" ? "↓" : "↑"}` : text;
    head.ariaSort = sorted ? (state.order === "desc" ? "descending" : "ascending") : null;
  }
  // A row keeps its element as long as it is shown: its button can be pressed, and has the focus.
  const before = new Map([...$("rows").children].map((row) => [row.dataset.id, row]));
  const rows = found.connections.map((connection) => {
    const row = before.get(connection.id) ?? newRow(connection, found.write);
    COLUMNS.forEach(([key, , text, kind], column) => {
      const cell = row.children[column];
      const shown = text(connection);
      if (cell.textContent !== shown) cell.textContent = shown;
      cell.className = key === "waits_for" ? connection.waits_for : kind ?? "";
    });
    return row;
  });
  if (rows.some((row, place) => $("rows").children[place] !== row)
      || rows.length !== $("rows").children.length) {
    const focused = document.activeElement;
    $("rows").replaceChildren(...rows);
    if (focused && focused.isConnected) focused.focus({preventScroll: true});
  }
  const to = found.first + rows.length;
  const all = found.open.toLocaleString("en");
  const of = state.filter ? `${found.matching.toLocaleString("en")} (${all} open)` : all;
  $("count").textContent = rows.length ? `${found.first + 1}–${to} of ${of}` : `none (${all} open)`;
  $("back").disabled = found.first === 0;
  $("next").disabled = to >= found.matching;
  if (!rows.length && found.first) {  // they have left
    state.first = 0;
    connect();
  }
}

function newRow(connection, write) {
  const row = element("tr");
  row.dataset.id = connection.id;
  row.title = `connection ${connection.id}, at ${connection.local ?? "–"}`;
  for (let column = 0; column < COLUMNS.length; column += 1) row.append(element("td", ""));
  const last = element("td");
  if (write) {
    const button = element("button", "End …", "grave");
    button.type = "button";
    button.addEventListener("click", () => ask(
      `End the connection from ${connection.peer}? It is reset: what is on its way is lost.`,
      "End it", `end?connection=${encodeURIComponent(connection.id)}`));
    last.append(button);
  }
  row.append(last);
  return row;
}

// -- the charts -------------------------------------------------------------------------------

const REASON_COLOURS = ["--first", "--second", "--bad", "--good", "--dim"];
const CHARTS = [
  ["connections", "Open connections", [["open", (each) => each.connections, "--first"]], count],
  ["bytes", "Bytes a second", [["in", (each) => each.bytes_in, "--first"], ["out", (each) => each.bytes_out, "--second"]], rate],
  ["ends", "Connections ended a second, by reason", null, count],
  ["lag", "Loop lag", [["lag", (each) => each.lag, "--first"]], seconds],
  ["p99", "Steps of the loop's tasks: 99 % took less than", [["p99", (each) => each.p99, "--first"]], seconds],
  ["workers", "Workers", [["workers", (each) => each.workers, "--first"]], count],
];
const drawn = new Map();
// Bytes are told in KiB and MiB: so that the axis has round numbers of them.
const POWERS_OF_2 = Array.from({length: 50}, (_, power) => 2 ** power);
const clock = (at, more) => new Date(at * 1000).toLocaleTimeString([], {hour12: false, ...more});

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function reasons() {
  const found = new Set(samples.flatMap((each) => Object.keys(each.ends)));
  return [...found].sort();
}

function lines(key, given) {
  return given ?? reasons().map((reason, place) => [
    reason, (each) => each.ends[reason] ?? 0, REASON_COLOURS[place % REASON_COLOURS.length]]);
}

function draw() {
  const now = last.time;
  for (const [key, title, given, format] of CHARTS) {
    const wanted = lines(key, given);
    const names = wanted.map(([name]) => name).join();
    const data = [samples.map((each) => each.time), ...wanted.map(([, value]) => samples.map(value))];
    let chart = drawn.get(key);
    if (!chart || chart.names !== names) {
      chart = plot(key, title, wanted, format, chart);
      chart.names = names;
      drawn.set(key, chart);
    }
    const width = chart.place.clientWidth - 24;
    if (chart.plot.width !== width) chart.plot.setSize({width, height: 130});
    // As far back as there is something to be seen, but a minute at least.
    const oldest = Math.min(samples[0]?.time ?? now, now - 60);
    chart.range = [Math.max(oldest, now - MINUTES * 60), now];
    chart.plot.setData(data);
  }
}

function plot(key, title, wanted, format, old) {
  const place = old?.place ?? element("div", undefined, "chart");
  place.replaceChildren(element("h3", title));
  if (!old) $("charts").append(place);
  const axis = {stroke: colour("--dim"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}, font: "12px system-ui"};
  const chart = {place, range: [last.time - MINUTES * 60, last.time]};
  chart.plot = new uPlot({
    width: place.clientWidth - 24 || 300, height: 130,
    scales: {
      x: {range: () => chart.range},
      y: {range: (_, low, high) => [0, Math.max(high ?? 0, key === "lag" || key === "p99" ? 0.001 : 1)]},
    },
    axes: [
      {...axis, size: 28, space: 90, values: (_, ticks) => ticks.map((tick) => (tick % 60 ? clock(tick, {}) : clock(tick, {hour: "2-digit", minute: "2-digit"})))},
      {...axis, size: 74, space: 30, values: (_, ticks) => ticks.map(format), ...(format === rate ? {incrs: POWERS_OF_2} : {})},
    ],
    series: [
      {label: "at", value: (_, value) => clock(value ?? last.time, {})},
      ...wanted.map(([label, , stroke]) => ({
        label, stroke: colour(stroke), width: 1.5, points: {show: false},
        // Where no pointer is, the newest.
        value: (made, value, series, at) => {
          const shown = at === null || at === undefined ? made.data[series].at(-1) : value;
          return shown === null || shown === undefined ? "–" : format(shown);
        },
      })),
    ],
    cursor: {drag: {x: false, y: false}, sync: {key: "live"}},
    legend: {live: true},
  }, [[], ...wanted.map(() => [])], place);
  return chart;
}

function redraw() {
  for (const chart of drawn.values()) chart.names = null;
  if (last) draw();
}

// -- the rest ---------------------------------------------------------------------------------

function showStatus(found) {
  const held = found.held_up.length > 0;
  $("status").textContent = held ? "held up" : found.ready ?? "ready";
  $("status").className = held || found.ready ? "bad" : "good";
  $("actions").hidden = !found.write;
  $("pause").textContent = found.ready === "accepting is paused" ? "Resume accepting" : "Pause accepting";
  $("drain").disabled = found.ready === "draining";
}

function showHeld(found) {
  $("held").hidden = !found.held_up.length;
  const shown = found.held_up.flatMap((worker) => [
    element("strong", `A step holds up process ${worker.pid}, for ${worker.seconds.toFixed(1)} s now:`),
    element("pre", worker.stack)]);
  $("held").replaceChildren(...shown);
}

function showTiles(found) {
  const newest = samples[samples.length - 1] ?? {};
  const figures = found.figures;
  const tiles = [
    ["connections", figures.connections.toLocaleString("en")],
    ["accepted", newest.accepted === undefined ? "–" : `${count(newest.accepted)}/s`],
    ["in", rate(newest.bytes_in)],
    ["out", rate(newest.bytes_out)],
    ["loop lag", seconds(figures.lag)],
    ["p99 of steps", seconds(newest.p99)],
    ["failed handlers", figures.handler_failures.toLocaleString("en")],
    ["workers", String(figures.workers)],
  ];
  $("tiles").replaceChildren(...tiles.map(([name, value]) => {
    const tile = element("div");
    tile.append(element("dt", name), element("dd", value));
    return tile;
  }));
}

function showWorkers(found) {
  $("workers").hidden = found.workers.length < 2;
  $("processes").replaceChildren(...found.workers.map((worker) => {
    const row = element("tr");
    row.append(element("td", String(worker.pid)), element("td", worker.connections.toLocaleString("en"), "number"),
      element("td", seconds(worker.lag), "number"));
    return row;
  }));
}

function show(found) {
  last = found;
  for (const each of found.history ?? []) {
    if (!samples.length || each.time > samples[samples.length - 1].time) samples.push(each);
  }
  while (samples.length && samples[0].time < found.time - MINUTES * 60) samples.shift();
  showStatus(found);
  showHeld(found);
  showTiles(found);
  showTable(found);
  showWorkers(found);
  draw();
}

function connect() {
  feed?.close();
  const query = new URLSearchParams({...state, first: String(state.first), most: String(PAGE)});
  feed = new EventSource(`events?${query}`);
  feed.onmessage = (event) => show(JSON.parse(event.data));
  feed.onerror = () => {
    $("status").textContent = "no answer";
    $("status").className = "bad";
    // A browser tries again by itself, but for an answer that is no feed: too many look.
    if (feed.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

function ask(question, yes, path) {
  $("question").textContent = question;
  $("yes").textContent = yes;
  $("ask").returnValue = "no";
  $("ask").onclose = () => { if ($("ask").returnValue === "yes") post(path); };
  $("ask").showModal();
}

async function post(path) {
  let said = "no answer";
  try {
    const answer = await fetch(path, {method: "POST"});
    if (answer.ok) return;
    said = (await answer.text()).trim();
  } catch {
    // It is said below.
  }
  $("status").textContent = said;
  $("status").className = "bad";
}

heads();
let typing = 0;
$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    Object.assign(state, {filter: $("filter").value.trim(), first: 0});
    connect();
  }, 250);
});
$("back").addEventListener("click", () => { state.first = Math.max(state.first - PAGE, 0); connect(); });
$("next").addEventListener("click", () => { state.first += PAGE; connect(); });
$("pause").addEventListener("click", () => post(last.ready === "accepting is paused" ? "resume" : "pause"));
$("drain").addEventListener("click", () => ask(
  "Drain the server? It listens no more, open connections come to their end, and it exits.", "Drain it", "drain"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("resize", () => { if (last) draw(); });
// A page that nobody sees asks for nothing, and costs nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) feed?.close();
  else connect();
});
if (!document.hidden) connect();
