"use strict";
// Each figure of the page has what it shows as JSON; it is drawn here.
{
  const LINES = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5"];
  const HEIGHT = 300;
  const FONT = "12px system-ui, sans-serif";
  const SMALL = "11px system-ui, sans-serif";

  // -- words ----------------------------------------------------------------------------------

  const digits = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(3))));

  function bytes(value) {
    const unit = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([size]) => value >= size) ?? [1, "B"];
    return `${digits(value / unit[0])} ${unit[1]}/s`;
  }

  function seconds(value) {
    if (value >= 1) return `${digits(value)} s`;
    return value >= 1e-3 ? `${digits(value * 1e3)} ms` : `${digits(value * 1e6)} µs`;
  }

  const UP = {"messages a second": (value) => `${digits(value)}/s`, "bytes a second": bytes, "time": seconds};
  const percent = (x) => Number((100 * (1 - 1 / x)).toPrecision(6));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // -- axes -----------------------------------------------------------------------------------

  // 1, 2 and 5 of each power of ten, from the last below `low` to the first above `high`.
  function steps(low, high) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const digit of [1, 2, 5]) found.push(Number(`${digit}e${power}`));
    }
    const first = found.findLastIndex((step) => step <= low);
    const last = found.findIndex((step) => step >= high);
    return found.slice(first, last + 1);
  }

  function logarithmic(values) {
    let [low, high] = [Infinity, 0];
    for (const value of values) {
      if (value > 0) [low, high] = [Math.min(low, value), Math.max(high, value)];
    }
    const all = steps(low, high);
    if (all.length < 2) all.push(...steps(high * 1.01, high * 2).slice(-1));
    const tens = all.filter((step) => Number.isInteger(Math.round(Math.log10(step) * 1e6) / 1e6));
    return {range: [all[0], all.at(-1)], ticks: all.length > 9 ? tens : all};
  }

  // -- a chart --------------------------------------------------------------------------------

  function draw(figure) {
    const told = figure.told;
    const {x, lines, cells, errors, marks} = told;
    const up = UP[told.up];
    const overTime = told.across === "time";
    const linear = told.up !== "time";
    const y = linear ? null : logarithmic(cells ? cells.up : lines.flatMap(([, values]) => values));
    const ends = overTime ? told.span : [x[0], x.at(-1)];
    const bad = Object.keys(errors).map(Number);
    const axis = {stroke: colour("--note"), grid: {stroke: colour("--line"), width: 1}, ticks: {show: false}, font: FONT};
    const nines = [1, 2, 10, 100, 1e3, 1e4, 1e5].filter((each) => each <= ends[1] * 1.001);

    function when(at) {
      if (!overTime) return `p${percent(at)}`;
      const mark = marks.findLast(([begin]) => begin <= at);
      return `${digits(at)} s${mark ? `, ${mark[1]}` : ""}`;
    }

    const series = [
      {label: overTime ? "at" : "percentile", value: (_, at) => (at === null || at === undefined ? "" : when(at))},
      ...lines.map(([label], place) => ({
        label, stroke: colour(LINES[place]), width: 1.5, spanGaps: !overTime, points: overTime ? {size: 4} : {show: false},
        value: (_, value, __, at) => (at === null || at === undefined ? "" : value === null ? "–" : up(value)),
      })),
    ];
    const data = [x, ...lines.map(([, values]) => values)];
    if (cells) {  // what it says is below it
      series.push({show: true, paths: () => null, points: {show: false}});
      data.push(x.map(() => null));
    } else if (bad.length) {
      series.push({
        label: "errors", stroke: colour("--bad"), paths: () => null, points: {show: false},
        value: (_, __, ___, at) => errors[at] ?? (at === null || at === undefined ? "" : "none"),
      });
      data.push(x.map(() => null));
    }

    const plot = new uPlot({
      width: figure.place.clientWidth, height: HEIGHT,
      scales: {
        x: {time: false, distr: overTime ? 1 : 3, range: () => ends},
        y: linear ? {range: (_, low, high) => [0, (high ?? 0) * 1.05 || 1]} : {distr: 3, range: () => y.range},
      },
      axes: [
        overTime
          ? {...axis, size: 28, values: (_, ticks) => ticks.map((tick) => `${digits(tick)} s`)}
          : {...axis, size: 28, splits: () => nines, filter: (_, ticks) => ticks, values: (_, ticks) => ticks.map((tick) => (tick === 1 && ends[1] > 1000 ? "" : `${percent(tick)} %`))},
        {...axis, size: 74, space: 30, values: (_, ticks) => ticks.map(up), ...(linear ? {} : {splits: () => y.ticks, filter: (_, ticks) => ticks})},
      ],
      series,
      cursor: {
        drag: {x: false, y: false}, y: Boolean(cells), points: {show: !cells},
        ...(overTime ? {sync: {key: "time", scales: ["x", null]}} : {}),
      },
      legend: {show: !cells},
      hooks: {
        draw: [(made) => {
          if (cells) paint(made, cells);
          rule(made, marks, Boolean(told.named));
          cross(made, bad, (place) => (linear ? lines[0][1][place] : y.range[1]), x);
        }],
        setCursor: [(made) => {
          if (!figure.said) return;
          const {idx, left, top} = made.cursor;
          const inside = idx !== null && idx !== undefined && left >= 0;
          figure.said.textContent = inside ? say(made, idx, top) : "";
        }],
      },
    }, data, figure.place);

    function say(made, place, top) {
      const parts = [when(x[place])];
      const at = top >= 0 ? made.posToVal(top, "y") : NaN;
      const cell = cells.up.findIndex((low, each) => low <= at && at < cells.up[each + 1]);
      if (cell >= 0) {
        const share = cells.shares[place][cell] ?? 0;
        parts.push(`${up(cells.up[cell])} to ${up(cells.up[cell + 1])}: ${share} % of its messages`);
      }
      if (errors[place]) parts.push(`errors: ${errors[place]}`);
      return parts.join("; ");
    }

    return plot;
  }

  // Of 100 messages: from one of 10,000, faint, to all of them.
  const strength = (share) => 0.12 + 0.88 * Math.min(Math.max((Math.log10(share) + 2) / 4, 0), 1);

  function paint(plot, cells) {
    const {ctx} = plot;
    const across = cells.across.map((at) => Math.round(plot.valToPos(at, "x", true)));
    const up = cells.up.map((at) => Math.round(plot.valToPos(at, "y", true)));
    ctx.save();
    ctx.fillStyle = colour("--ours");
    cells.shares.forEach((column, place) => column.forEach((share, cell) => {
      if (!share) return;
      ctx.globalAlpha = strength(share);
      const width = Math.max(across[place + 1] - across[place], 1);
      ctx.fillRect(across[place], up[cell + 1], width, up[cell] - up[cell + 1]);
    }));
    ctx.restore();
  }

  function rule(plot, marks, named) {
    const {ctx, bbox} = plot;
    let free = -Infinity;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--note");
    ctx.font = SMALL.replace("11", 11 * devicePixelRatio);
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const [at, text] of marks) {
      const x = plot.valToPos(at, "x", true);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      // A name has a place where no other is; the pointer tells all of them.
      if (named && x >= free) {
        ctx.save();
        ctx.translate(x + 4 * devicePixelRatio, bbox.top + 4 * devicePixelRatio);
        ctx.rotate(-Math.PI / 2);
        ctx.textAlign = "right";
        ctx.textBaseline = "top";
        ctx.fillText(text, 0, 0);
        ctx.restore();
        free = x + 15 * devicePixelRatio;
      }
    }
    ctx.restore();
  }

  function cross(plot, places, height, x) {
    const {ctx} = plot;
    const arm = 4.5 * devicePixelRatio;
    ctx.save();
    ctx.strokeStyle = colour("--bad");
    ctx.lineWidth = 2 * devicePixelRatio;
    for (const place of places) {
      const [left, top] = [plot.valToPos(x[place], "x", true), plot.valToPos(height(place), "y", true)];
      ctx.beginPath();
      for (const way of [1, -1]) {
        ctx.moveTo(left - arm, top - way * arm);
        ctx.lineTo(left + arm, top + way * arm);
      }
      ctx.stroke();
    }
    ctx.restore();
  }

  // -- the page -------------------------------------------------------------------------------

  function prepare(element) {
    const told = JSON.parse(element.querySelector("script").textContent);
    const place = element.appendChild(document.createElement("div"));
    const figure = {told, place};
    if (told.cells) {
      const scale = document.createElement("div");
      scale.className = "scale";
      const strip = document.createElement("i");
      scale.append("0.01\u00a0%", strip, "100 % of the messages of an interval");
      figure.strip = strip;
      figure.said = document.createElement("p");
      figure.said.className = "said";
      element.append(scale, figure.said);
    }
    return figure;
  }

  const figures = [...document.querySelectorAll("figure")].map(prepare);

  function drawAll() {
    for (const figure of figures) {
      figure.plot?.destroy();
      if (figure.strip) {
        const ours = colour("--ours");
        figure.strip.style.background = `linear-gradient(to right, color-mix(in srgb, ${ours} 12%, transparent), ${ours})`;
      }
      figure.plot = draw(figure);
    }
  }

  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("resize", () => {
    for (const {plot, place} of figures) {
      if (plot.width !== place.clientWidth) plot.setSize({width: place.clientWidth, height: HEIGHT});
    }
  });
}
