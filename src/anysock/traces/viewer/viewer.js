"use strict";
// A trace: lanes over time, and the loop, one turn after the other. No library, no network.

const {head, events} = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

// -- words ------------------------------------------------------------------------------------

function seconds(ns) {
  const size = Math.abs(ns);
  if (!size) return "0";
  if (size < 1e3) return `${Math.round(ns)} ns`;
  if (size < 1e6) return `${(ns / 1e3).toPrecision(3)} µs`;
  if (size < 1e9) return `${(ns / 1e6).toPrecision(3)} ms`;
  return `${(ns / 1e9).toPrecision(4)} s`;
}

const taskName = (id) => tasks.has(id) ? tasks.get(id).name : `task ${id}`;

function waitWords(step) {
  switch (step.wait) {
    case "read": return step.fd === undefined ? "waits to receive" : `waits to read ${step.fd}`;
    case "write": return step.fd === undefined ? "waits to send" : `waits to write ${step.fd}`;
    case "sleep": return `sleeps until ${seconds(step.until)}`;
    case "join": return `waits for the end of ${taskName(step.on)}`;
    case "event": return "waits for an event";
    case "poll": return "waits for the poller";
    case "ready": return "is ready again";
    default: return step.end ? (step.error ? `${step.end}: ${step.error}` : step.end) : "";
  }
}

const by = (event) => event.by === undefined ? "" : `, by ${taskName(event.by)}`;

// What an event says, in a line.
function words(event) {
  switch (event.e) {
    case "turn": return `the poller slept ${seconds(event.slept)}, ${event.events} ready`;
    case "task": return `${event.name} is spawned${by(event)}`;
    case "step": {
      const moved = event.got || event.sent ? `, got ${event.got} B, sent ${event.sent} B` : "";
      const vain = event.vain ? `, asks in vain ${event.vain === 1 ? "once" : event.vain.toLocaleString("en") + " times"}` : "";
      return `${taskName(event.task)} runs ${seconds(event.ran)}${vain}${moved}, then ${waitWords(event)}`;
    }
    case "serves": return `${taskName(event.task)} works for ${event.conn}`;
    case "wake": return `${taskName(event.task)} is woken${by(event)}${event.error ? `, with ${event.error}` : ""}`;
    case "timer": return `timer ${event.timer} is set, due ${seconds(event.due)}${by(event)}`;
    case "timer_end": return `timer ${event.timer} ${event.how === "fired" ? "fires" : "is cancelled"}`;
    case "interest": return event.wants ? `the poller is to report ${event.fd}: ${event.wants}`
      : `the poller forgets ${event.fd}`;
    case "queued": return `in the listener's queue: ${event.peer}, ${event.conn}`;
    case "accept": return `accepted: ${event.peer}, ${event.conn}`;
    case "open": return `open: ${event.peer}, ${event.conn}`;
    case "failed": return `the handler of ${event.conn} fails: ${event.error}`;
    case "close": return `closed: ${event.conn}, ${event.reason}; got ${event.got} B, sent ${event.sent} B`;
    case "segment": return `${event.host} → ${event.to}: ${event.what}${event.bytes ? ` ${event.bytes} B` : ""}`;
    case "fault": return `${event.host}: FAULT ${event.what} ${event.text || ""}`;
    case "mark": return `${event.host ? event.host + ": " : ""}${event.what} ${event.text || ""}`;
    case "finding": return `FOUND: ${event.text}`;
    case "differs": return `from here on it differs from ${event.text}`;
    case "end": return event.why === "full" ? "the file is full" : "the end";
    default: return event.e;
  }
}

// -- what there is: lanes, and what is drawn in them ---------------------------------------------

const tasks = new Map();    // number -> {name, conn}
const conns = new Map();    // ID -> peer
const lanes = [];           // {name, about, bars: [{t0, t1, kind, index}], dots: [{t, index, bad}]}
const laneOf = new Map();   // key -> lane
const arrows = [];          // {t, from, to, kind, index}

function lane(key, name) {
  let found = laneOf.get(key);
  if (!found) laneOf.set(key, found = {key, name, about: name, bars: [], dots: [], place: lanes.push(0) - 1});
  return lanes[found.place] = found;
}

// Whether it is told who waits in the queue of a listener.
const queues = events.some((event) => event.e === "queued");
const endOf = events.reduce((most, event) => Math.max(most, event.t + (event.ran || 0)), 1);
const turns = [];  // indices of the events at which a turn begins; where there are none, of all
const SLOW = 50e6;
// Of bars.
const KINDS = ["run", "slow", "ready", "read", "write", "sleep", "event", "join", "poll"];

function prepare() {
  const waits = new Map();  // task -> {since, kind, index}: what it does between its steps
  const rest = (id, until) => {
    const wait = waits.get(id);
    if (wait) lane(id).bars.push({t0: wait.since, t1: until, kind: wait.kind, index: wait.index});
  };
  events.forEach((event, index) => {
    switch (event.e) {
      case "turn":
        turns.push(index);
        lane("loop", "loop: asleep").bars.push({t0: event.t - event.slept, t1: event.t, kind: "sleep", index});
        break;
      case "task":
        // As addresses are written everywhere else.
        tasks.set(event.task, {name: event.name.replace(/^client \('([^']+)', (\d+).*\)$/, "client $1:$2")});
        lane(event.task, taskName(event.task));
        waits.set(event.task, {since: event.t, kind: "ready", index});
        break;
      case "step": {
        if (!laneOf.has(event.task)) lane(event.task, `task ${event.task}`);
        rest(event.task, event.t);
        const kind = event.ran >= SLOW ? "slow" : "run";
        lane(event.task).bars.push({t0: event.t, t1: event.t + event.ran, kind, index});
        if (event.end) waits.delete(event.task);
        else waits.set(event.task, {since: event.t + event.ran, kind: event.wait || "ready", index});
        if (event.end === "failed") lane(event.task).dots.push({t: event.t + event.ran, index, bad: true});
        break;
      }
      case "wake": {
        // Within a step, what wakes is told before the step's own wait is known.
        rest(event.task, event.t);
        waits.set(event.task, {since: event.t, kind: "ready", index});
        if (event.by !== undefined && event.by !== event.task && laneOf.has(event.by)) {
          arrows.push({t: event.t, from: laneOf.get(event.by), to: lane(event.task, ""), kind: "wake", index});
        }
        break;
      }
      case "serves": {
        const task = tasks.get(event.task);
        if (task) task.conn = event.conn;
        const said = ` ${event.conn} ${conns.get(event.conn) || ""}`, served = lane(event.task, `task ${event.task}`);
        if (!served.about.includes(said)) served.about += said;
        break;
      }
      case "open":
        conns.set(event.conn, event.peer);
        lane("server", "server").dots.push({t: event.t, index});
        break;
      case "failed": case "accept": case "close":
        lane("server", "server").dots.push({t: event.t, index, bad: event.e === "failed"});
        break;
      case "segment": {
        const from = lane("host " + event.host, event.host), to = lane("host " + event.to, event.to);
        arrows.push({t: event.t, from, to, kind: event.what, index, bytes: event.bytes});
        break;
      }
      case "finding":
        lane("found", "found").dots.push({t: event.t, index, bad: true, text: "found"});
        break;
      case "fault": case "mark": {
        const key = event.host ? "host " + event.host : "server";
        lane(key, event.host || "server").dots.push({t: event.t, index, bad: event.e !== "mark", text: event.what});
        break;
      }
      default:
    }
  });
  for (const id of waits.keys()) rest(id, endOf);
  for (const each of lanes) {
    each.bars.sort((a, b) => a.t0 - b.t0);
    for (const bar of each.bars) bar.bit = 1 << Math.max(KINDS.indexOf(bar.kind), 0);
    each.longest = each.bars.reduce((most, bar) => Math.max(most, bar.t1 - bar.t0), 0);
  }
  if (!turns.length) events.forEach((event, index) => { if (!["end", "differs"].includes(event.e)) turns.push(index); });
}

// -- the state after an event ----------------------------------------------------------------------

// A copy of the state is kept every so many events, so that a jump is cheap.
const EVERY = 2000;
const kept = [];

const copy = (state) => ({
  tasks: new Map([...state.tasks].map(([id, task]) => [id, {...task}])),
  timers: new Map(state.timers), interest: new Map(state.interest), queue: new Map(state.queue),
  conns: new Map([...state.conns].map(([id, conn]) => [id, {...conn}])),
});

function apply(state, event) {
  const task = state.tasks.get(event.task);
  switch (event.e) {
    case "task": state.tasks.set(event.task, {is: "ready"}); break;
    case "step":
      if (event.end) state.tasks.delete(event.task);
      else state.tasks.set(event.task, {is: event.wait === "ready" ? "ready" : "paused", step: event});
      if (task && task.conn && state.tasks.has(event.task)) state.tasks.get(event.task).conn = task.conn;
      if (task && task.conn && state.conns.has(task.conn)) {
        const conn = state.conns.get(task.conn);
        conn.got += event.got || 0; conn.sent += event.sent || 0;
      }
      break;
    case "serves": if (task) task.conn = event.conn; break;
    case "wake": if (task) { task.is = "ready"; } break;
    case "timer": state.timers.set(event.timer, event); break;
    case "timer_end": state.timers.delete(event.timer); break;
    case "interest":
      if (event.wants) state.interest.set(event.fd, event.wants); else state.interest.delete(event.fd);
      break;
    case "queued": state.queue.set(event.conn, event.peer); break;
    case "accept": state.queue.delete(event.conn); break;
    case "open": state.conns.set(event.conn, {peer: event.peer, fd: event.fd, got: 0, sent: 0}); break;
    case "close": state.conns.delete(event.conn); break;
    default:
  }
}

function stateAfter(index) {
  const block = Math.floor((index + 1) / EVERY);
  if (!kept.length) kept.push({tasks: new Map(), timers: new Map(), interest: new Map(), queue: new Map(), conns: new Map()});
  while (kept.length <= block) {
    const state = copy(kept[kept.length - 1]), from = (kept.length - 1) * EVERY;
    for (let each = from; each < from + EVERY; each++) apply(state, events[each]);
    kept.push(state);
  }
  const state = copy(kept[block]);
  for (let each = block * EVERY; each <= index; each++) apply(state, events[each]);
  return state;
}

// -- where we are ------------------------------------------------------------------------------------

const view = {from: 0, to: endOf, top: 0, cursor: 0, hits: [], shown: [], single: false};

// The turn of an event: its place in `turns`.
function turnOf(index) {
  let low = 0, high = turns.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (turns[middle] <= index) low = middle; else high = middle - 1;
  }
  return low;
}

const endOfTurn = (turn) => (turn + 1 < turns.length ? turns[turn + 1] : events.length) - 1;

function goTo(index, single = false) {
  view.cursor = Math.min(Math.max(index, 0), events.length - 1);
  view.single = single;
  const t = events[view.cursor].t, width = view.to - view.from;
  if (t < view.from || t > view.to) { view.from = t - width / 2; view.to = t + width / 2; }
  tell(); draw();
}

function turnBy(step) {
  const turn = turnOf(view.cursor);
  goTo(turns[Math.min(Math.max(turn + step, 0), turns.length - 1)] || 0);
}

function zoom(factor, around = (events[view.cursor] || {t: 0}).t) {
  const at = Math.min(Math.max(around, view.from), view.to);
  const width = Math.min(Math.max((view.to - view.from) * factor, 1e3), endOf * 1.1);
  const share = (at - view.from) / (view.to - view.from);
  view.from = at - share * width; view.to = view.from + width;
  draw();
}

function fit() { const edge = endOf * 0.02; view.from = -edge; view.to = endOf + edge; draw(); }

// -- beside the lanes ---------------------------------------------------------------------------------

function list(title, rows, wide = false) {
  const part = document.createElement("section");
  if (wide) part.className = "wide";
  const name = document.createElement("h3"), items = document.createElement("ul");
  name.textContent = `${title} (${rows.length})`;
  const most = 40;
  for (const row of rows.slice(0, most)) items.append(Object.assign(document.createElement("li"), {textContent: row}));
  if (rows.length > most) items.append(Object.assign(document.createElement("li"), {textContent: `… ${rows.length - most} more`}));
  part.append(name, items);
  return part;
}

function tell() {
  const turn = turnOf(view.cursor), hasLoop = laneOf.has("loop");
  const first = turns.length ? turns[turn] : 0, last = view.single ? view.cursor : endOfTurn(turn);
  const from = Math.min(first, view.cursor);
  const t = events.length ? events[view.cursor].t : 0;
  byId("place").textContent = events.length
    ? `${hasLoop ? "turn" : "event"} ${(turn + 1).toLocaleString("en")} of ${turns.length.toLocaleString("en")}, ${seconds(t)}`
    : "empty";
  byId("back").disabled = byId("first").disabled = turn <= 0;
  byId("forward").disabled = byId("last").disabled = turn >= turns.length - 1;
  byId("now-title").textContent = hasLoop ? "This turn" : "About here";
  const near = queues ? 5 : 8;  // beside it there is more to see
  const begin = hasLoop ? from : Math.max(view.cursor - near, 0), end = hasLoop ? endOfTurn(turn) : Math.min(view.cursor + near, events.length - 1);
  const now = byId("now");
  now.replaceChildren();
  for (let index = begin; index <= end && index < begin + 200; index++) {
    const item = document.createElement("li");
    item.value = index + 1;
    item.textContent = words(events[index]);
    if (index === view.cursor) item.className = "here";
    item.addEventListener("click", () => goTo(index, true));
    now.append(item);
  }
  const state = stateAfter(last), parts = [];
  if (queues) parts.push(list("In the listener's queue", [...state.queue].map(([id, peer]) => `${id} ${peer}`), true));
  if (tasks.size) {
    const of = (is) => [...state.tasks].filter(([, task]) => task.is === is);
    parts.push(list("Ready", of("ready").map(([id]) => taskName(id))));
    if (hasLoop) parts.push(list("Timers", [...state.timers.values()].sort((a, b) => a.due - b.due)
      .map((timer) => `${timer.timer}: due ${seconds(timer.due)}${by(timer)}`)));
    parts.push(list("Paused", of("paused").map(([id, task]) => `${taskName(id)} ${waitWords(task.step)}`), true));
    if (hasLoop) parts.push(list("The poller is asked", [...state.interest].map(([fd, wants]) => `${fd}: ${wants}`)));
  }
  if (state.conns.size || !tasks.size && conns.size) {
    parts.push(list("Connections", [...state.conns].map(([id, conn]) =>
      `${id} ${conn.peer}${conn.fd === undefined ? "" : `, descriptor ${conn.fd}`}`
      + (tasks.size ? `: got ${conn.got} B, sent ${conn.sent} B` : "")), true));
  }
  byId("state").replaceChildren(...parts);
}

// What a reader should look at first: [text, index, whether it is bad, for how long].
function notes() {
  const found = [];
  events.forEach((event, index) => {
    if (event.e === "finding") found.push([words(event), index, true]);
    if (event.e === "differs") found.push([`first difference: ${event.text}`, Math.min(index + 1, events.length - 1), false]);
  });
  const steps = events.map((event, index) => [event, index]).filter(([event]) => event.e === "step");
  const longest = steps.reduce((a, b) => (!a || b[0].ran > a[0].ran ? b : a), null);
  if (longest && longest[0].ran >= SLOW) {
    found.push([`longest step: ${taskName(longest[0].task)} holds up all others for ${seconds(longest[0].ran)}`, longest[1], true]);
  } else if (longest) found.push([`longest step: ${taskName(longest[0].task)}, ${seconds(longest[0].ran)}`, longest[1], false]);
  let blocked = null;
  for (const each of lanes) for (const bar of each.bars) {
    if (bar.kind === "write" && bar.t1 - bar.t0 >= SLOW && (!blocked || bar.t1 - bar.t0 > blocked[0])) blocked = [bar.t1 - bar.t0, each, bar];
  }
  if (blocked) found.push([`${blocked[1].name} waits ${seconds(blocked[0])} for a peer that does not read`, blocked[2].index, true, blocked[0]]);
  // A task that waits for an event until all is over, or until it is cancelled, waits in vain. (A
  // task that waits for tasks of its own is not meant: these are woken, or do something.)
  const waiting = new Map();
  const inVain = (id, until, how) => {
    const [event, index] = waiting.get(id);
    const since = event.t + event.ran;
    if (until - since >= SLOW) found.push([`${taskName(id)} waits ${seconds(until - since)} for an event that does not come, ${how}`, index, true, until - since]);
  };
  events.forEach((event, index) => {
    if (event.e === "step") {
      if (event.wait === "event") waiting.set(event.task, [event, index]); else waiting.delete(event.task);
    } else if (event.e === "wake" && waiting.has(event.task)) {
      if (/^Cancelled/.test(event.error) && event.by !== undefined) inVain(event.task, event.t, "and is cancelled");
      waiting.delete(event.task);
    }
  });
  for (const id of waiting.keys()) inVain(id, endOf, "to the end");
  return found.slice(0, 8);
}

// -- the lanes -------------------------------------------------------------------------------------------

const canvas = byId("lanes"), pen = canvas.getContext("2d");
const HEAD = 24;
// So many dots, or arrows, of a lane have room for words beside them.
const FEW = 12;
let LANE = 22, labels = 150, palette = {};

// (To ask an element for its width is costly, and is done once a picture.)
let wide = canvas.clientWidth;
const x = (t) => labels + (t - view.from) / (view.to - view.from) * (wide - labels);
const timeAt = (px) => view.from + (px - labels) / (wide - labels) * (view.to - view.from);
const y = (row) => HEAD + row * LANE - view.top;

function choose() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const order = (each) => each.key === "loop" ? 0 : each.key === "server" ? 1 : each.key === "found" ? 3 : 2;
  view.shown = lanes.filter((each) => !wanted || order(each) !== 2 && order(each) !== 1 || each.about.toLowerCase().includes(wanted))
    .sort((a, b) => order(a) - order(b));
  for (const each of lanes) each.row = -1;
  view.shown.forEach((each, row) => { each.row = row; });
  view.top = 0;
}

function firstFrom(items, t, key) {
  let low = 0, high = items.length;
  while (low < high) { const middle = (low + high) >> 1; if (items[middle][key] < t) low = middle + 1; else high = middle; }
  return low;
}

let asked = false;
function draw() { if (!asked) { asked = true; requestAnimationFrame(paint); } }

function paint() {
  asked = false;
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  labels = width < 600 ? 84 : 170;
  wide = width;
  // Few lanes are high, so that arrows between them have a length.
  LANE = Math.min(Math.max((height - HEAD - 8) / Math.max(view.shown.length, 1), 22), laneOf.has("loop") ? 34 : 72);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.fillStyle = palette.paper; pen.fillRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif"; pen.textBaseline = "middle";
  const most = Math.max(view.shown.length * LANE - (height - HEAD - 8), 0);
  view.top = Math.min(Math.max(view.top, 0), most);
  paintTimes(width, height);
  const firstRow = Math.max(Math.floor(view.top / LANE), 0), lastRow = Math.min(Math.ceil((view.top + height) / LANE), view.shown.length);
  pen.save(); pen.beginPath(); pen.rect(labels, HEAD, width - labels, height - HEAD); pen.clip();
  for (let row = firstRow; row < lastRow; row++) paintLane(view.shown[row], y(row), width);
  paintArrows(width, height);
  paintCursor(height);
  pen.restore();
  paintLabels(firstRow, lastRow, height);
}

function paintTimes(width, height) {
  const span = view.to - view.from, rough = span / Math.max((width - labels) / 110, 1);
  const power = 10 ** Math.floor(Math.log10(rough)), step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  pen.strokeStyle = palette.line; pen.fillStyle = palette.faint; pen.textAlign = "center";
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
    const at = x(t);
    if (at < labels) continue;
    pen.beginPath(); pen.moveTo(at, HEAD); pen.lineTo(at, height); pen.stroke();
    if (at > labels + 20 && at < width - 25) pen.fillText(seconds(Math.abs(t) < step / 2 ? 0 : t), at, HEAD / 2);
  }
}

function paintLane(each, top, width) {
  const bars = each.bars, from = view.from - each.longest;
  // Of what falls on one pixel, one of each kind is drawn: `seen` are the kinds that were, until the
  // time at which the pixel ends.
  let seen = 0, until = -Infinity;
  for (let number = firstFrom(bars, from, "t0"); number < bars.length && bars[number].t0 <= view.to; number++) {
    const bar = bars[number];
    if (bar.t1 < until && seen & bar.bit || bar.t1 < view.from) continue;
    const left = Math.max(x(bar.t0), labels - 2), right = Math.min(x(bar.t1), width + 2);
    const runs = bar.kind === "run" || bar.kind === "slow";
    if (bar.t0 >= until) { until = timeAt(Math.floor(left) + 1); seen = 0; }
    seen |= bar.bit;
    pen.fillStyle = palette[bar.kind] || palette.event;
    const size = runs ? Math.min(LANE - 6, 20) : 6;
    pen.fillRect(left, top + (LANE - size) / 2, Math.max(right - left, 1), size);
  }
  let before = -10, written = -10;
  const first = firstFrom(each.dots, view.from, "t"), few = (firstFrom(each.dots, view.to, "t") - first) <= FEW;
  for (let number = first; number < each.dots.length && each.dots[number].t <= view.to; number++) {
    const dot = each.dots[number], at = x(dot.t);
    if (at - before < 2 && !dot.bad) continue;
    before = at;
    if (few && dot.text && LANE >= 30 && at > written) {
      pen.fillStyle = palette.ink; pen.textAlign = "left";
      pen.fillText(dot.text, at + 7, top + LANE / 2 - 9);
      written = at + 12 + pen.measureText(dot.text).width;
    }
    pen.fillStyle = dot.bad ? palette.slow : palette.run;
    pen.beginPath(); pen.arc(at, top + LANE / 2, dot.bad ? 5 : 3.5, 0, 7); pen.fill();
  }
}

function paintArrows(width, height) {
  const before = new Map();
  const few = firstFrom(arrows, view.to, "t") - firstFrom(arrows, view.from, "t") <= 4 * FEW;
  for (let number = firstFrom(arrows, view.from, "t"); number < arrows.length && arrows[number].t <= view.to; number++) {
    const arrow = arrows[number];
    if (arrow.from.row < 0 || arrow.to.row < 0) continue;
    const at = x(arrow.t), start = y(arrow.from.row) + LANE / 2, end = y(arrow.to.row) + LANE / 2;
    if (Math.max(start, end) < HEAD || Math.min(start, end) > height) continue;
    const way = `${arrow.from.row} ${arrow.to.row} ${arrow.kind}`;
    if (at - (before.get(way) ?? -10) < 1) continue;
    before.set(way, at);
    pen.strokeStyle = pen.fillStyle = arrow.kind === "rst" ? palette.slow : arrow.kind === "wake" ? palette.ready : arrow.kind === "ack" ? palette.line : palette.run;
    pen.setLineDash(arrow.kind === "fin" ? [4, 3] : []);
    pen.beginPath(); pen.moveTo(at, start); pen.lineTo(at, end); pen.stroke();
    pen.setLineDash([]);
    if (few && arrow.bytes && LANE >= 30) {
      pen.textAlign = "left";
      pen.fillText(`${arrow.bytes} B`, at + 4, (start + end) / 2);
    }
    const tip = Math.sign(end - start) || 1;
    pen.beginPath(); pen.moveTo(at, end); pen.lineTo(at - 3.5, end - 7 * tip); pen.lineTo(at + 3.5, end - 7 * tip); pen.fill();
  }
}

function paintCursor(height) {
  for (const index of view.hits) {
    const at = x(events[index].t);
    if (at >= labels) { pen.fillStyle = palette.hit; pen.fillRect(at - 1, HEAD, 2, 6); }
  }
  if (!events.length) return;
  const event = events[view.cursor], last = events[view.single ? view.cursor : endOfTurn(turnOf(view.cursor))];
  const left = x(event.t), right = x(Math.max(last.t + (last.ran || 0), event.t));
  pen.fillStyle = palette.cursor; pen.globalAlpha = 0.12; pen.fillRect(left, HEAD, Math.max(right - left, 2), height);
  pen.globalAlpha = 1; pen.fillRect(left - 0.75, HEAD, 1.5, height);
}

function paintLabels(firstRow, lastRow, height) {
  pen.fillStyle = palette.paper; pen.fillRect(0, HEAD, labels, height - HEAD);
  pen.textAlign = "left";
  for (let row = firstRow; row < lastRow; row++) {
    const top = y(row);
    if (top < HEAD - LANE / 2) continue;
    pen.fillStyle = palette.ink;
    let name = view.shown[row].name;
    while (name.length > 4 && pen.measureText(name).width > labels - 14) name = name.slice(0, -2).trimEnd() + "…";
    pen.fillText(name, 6, top + LANE / 2);
  }
  pen.strokeStyle = palette.line;
  pen.beginPath(); pen.moveTo(labels - 0.5, HEAD); pen.lineTo(labels - 0.5, height); pen.stroke();
}

// The event nearest to a place of the canvas.
function eventAt(px, py) {
  const t = timeAt(px), row = Math.floor((py - HEAD + view.top) / LANE), each = view.shown[row];
  let best = -1, distance = Infinity;
  const look = (index, away) => { if (away < distance) { best = index; distance = away; } };
  if (each) {
    for (const bar of each.bars) look(bar.index, bar.t0 <= t && t <= bar.t1 ? 0 : Math.min(Math.abs(bar.t0 - t), Math.abs(bar.t1 - t)));
    for (const dot of each.dots) look(dot.index, Math.abs(dot.t - t));
    for (const arrow of arrows) if (arrow.from === each || arrow.to === each) look(arrow.index, Math.abs(arrow.t - t));
  }
  return best >= 0 ? best : Math.min(firstFrom(events, t, "t"), events.length - 1);
}

// -- what the reader does -----------------------------------------------------------------------------------

function search(next) {
  const wanted = byId("search").value.trim().toLowerCase();
  if (!wanted) { view.hits = []; byId("hits").textContent = ""; draw(); return; }
  if (view.wanted !== wanted) {
    view.wanted = wanted;
    view.hits = [];
    events.forEach((event, index) => { if (words(event).toLowerCase().includes(wanted)) view.hits.push(index); });
  }
  const count = view.hits.length;
  let text = count ? `${count.toLocaleString("en")} found` : "nothing found";
  if (count && next) {
    const after = view.hits.find((index) => next > 0 ? index > view.cursor : false);
    const before = [...view.hits].reverse().find((index) => index < view.cursor);
    const found = next > 0 ? after ?? view.hits[0] : before ?? view.hits[count - 1];
    text = `${(view.hits.indexOf(found) + 1).toLocaleString("en")} of ${count.toLocaleString("en")}`;
    goTo(found, true);
  }
  byId("hits").textContent = text;
  draw();
}

function onKey(event) {
  const typing = event.target.tagName === "INPUT";
  if (event.key === "Escape") { event.target.blur(); return; }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    ArrowRight: () => event.shiftKey ? goTo(view.cursor + 1, true) : turnBy(1),
    ArrowLeft: () => event.shiftKey ? goTo(view.cursor - 1, true) : turnBy(-1),
    Home: () => goTo(turns[0] || 0), End: () => goTo(turns[turns.length - 1] || 0),
    "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "0": fit,
    "/": () => byId("search").focus(), n: () => search(1), N: () => search(-1), "?": toggleHelp,
  };
  const action = actions[event.key];
  if (action) { event.preventDefault(); action(); }
}

function toggleHelp() {
  const keys = byId("keys");
  keys.hidden = !keys.hidden;
  byId("help").setAttribute("aria-expanded", String(!keys.hidden));
}

function drag() {
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = {x: event.offsetX, y: event.offsetY, view: {...view}, moved: false};
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    const dx = event.offsetX - from.x, dy = event.offsetY - from.y;
    if (Math.abs(dx) + Math.abs(dy) > 4) from.moved = true;
    if (!from.moved) return;
    const shift = dx / (canvas.clientWidth - labels) * (from.view.to - from.view.from);
    view.from = from.view.from - shift; view.to = from.view.to - shift; view.top = from.view.top - dy;
    draw();
  });
  canvas.addEventListener("pointerup", (event) => {
    if (from && !from.moved && events.length) goTo(eventAt(event.offsetX, event.offsetY), true);
    from = null;
  });
  canvas.addEventListener("pointercancel", () => { from = null; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) zoom(1.002 ** event.deltaY, timeAt(event.offsetX));
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      const shift = (event.deltaX || event.deltaY) / canvas.clientWidth * (view.to - view.from);
      view.from += shift; view.to += shift; draw();
    } else { view.top += event.deltaY; draw(); }
  }, {passive: false});
}

function colours() {
  for (const name of ["ink", "faint", "line", "paper", "run", "slow", "ready", "read", "write", "sleep", "event", "cursor", "hit"]) {
    palette[name] = colour(name);
  }
  palette.join = palette.event;
  palette.poll = palette.sleep;
  draw();
}

function begin() {
  prepare();
  choose();
  const count = `${events.length.toLocaleString("en")} events in ${seconds(endOf)}`;
  byId("about").textContent = `${count}${head.clock === "virtual" ? " of virtual time" : ""}${head.engine === "none" ? "" : `; engine ${head.engine}`}`
    + `${head.began ? `; began ${head.began}` : ""}; Anysock ${head.version}`;
  for (const [id, peer] of conns) byId("connections").append(Object.assign(document.createElement("option"), {value: id, label: peer}));
  for (const [text, index, bad, lasts] of notes()) {
    const button = Object.assign(document.createElement("button"), {textContent: text, className: bad ? "bad" : ""});
    button.addEventListener("click", () => {
      const t = events[index].t, width = Math.max((lasts || events[index].ran || 0) * 2, endOf / 20);
      view.from = t - width / 4; view.to = view.from + width;
      goTo(index, true);
    });
    const item = document.createElement("li");
    item.append(button);
    byId("notes").append(item);
  }
  const drawn = new Set(lanes.flatMap((each) => each.bars.map((bar) => bar.kind)));
  const kinds = laneOf.has("loop")
    ? [["run", "runs"], ["slow", "runs for 50 ms or more"], ["ready", "ready"], ["read", "waits to receive"], ["write", "waits to send"], ["sleep", "sleeps"], ["event", "waits for another task"]]
    : tasks.size ? [["run", "runs"], ["slow", "runs for 50 ms or more"], ["ready", "ready"], ["read", "waits to receive"], ["write", "waits to send"]].filter(([kind]) => drawn.has(kind))
    : [["run", "sent, or told"], ["slow", "a fault, a reset, what was found"]];
  for (const [kind, text] of kinds) {
    const key = document.createElement("span"), box = document.createElement("i");
    key.className = "key"; box.style.background = `var(--${kind})`;
    key.append(box, text); byId("legend").append(key);
  }
  const on = (id, action) => byId(id).addEventListener("click", action);
  on("first", () => goTo(turns[0] || 0)); on("last", () => goTo(turns[turns.length - 1] || 0));
  on("back", () => turnBy(-1)); on("forward", () => turnBy(1));
  on("in", () => zoom(0.5)); on("out", () => zoom(2)); on("fit", fit); on("help", toggleHelp);
  byId("search").addEventListener("input", () => search(0));
  byId("search").addEventListener("keydown", (event) => { if (event.key === "Enter") search(event.shiftKey ? -1 : 1); });
  byId("filter").addEventListener("input", () => { choose(); draw(); });
  document.addEventListener("keydown", onKey);
  drag();
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
  colours(); fit(); tell();
}

begin();
