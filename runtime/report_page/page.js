"use strict";
// Draws the timeline of the page from the data in #data, sorts and filters tables.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const box = document.getElementById("tracks"), canvas = box.querySelector("canvas");
  const context = canvas.getContext("2d"), tip = document.getElementById("tip");
  const GUTTER = 96, GAP = 5, RULER = 24;
  const INSTRUCTION = 7, SPAN = 4, BUFFER = 8;
  let view = [0, Math.max(1, data.cycles)], colors = {}, tracks = [], chosen = -1;

  // --- what is drawn where ---------------------------------------------------------------------

  const readColors = () => {
    const style = getComputedStyle(document.documentElement);
    colors = new Proxy({}, { get: (_, name) => style.getPropertyValue("--" + name).trim() || "#888" });
    const kept = {};
    for (const name of ["ink", "soft", "line", "card", "zebra", "accent", "array", "vector", "spm", "dram", "acc",
      "output", "host", "leakage", "clock", ...data.kinds]) kept[name] = colors[name];
    colors = kept;
  };

  const layout = () => {
    tracks = [];
    let y = RULER;
    const add = (track, height) => { tracks.push({ ...track, y, height }); y += height + GAP; };
    add({ type: "critical", name: "critical path" }, 18);
    for (const engine of data.engines) add({ type: "engine", name: engine.name, rows: engine.rows }, 24);
    for (const curve of data.curves) add({ type: "curve", name: curve.name, curve }, 46);
    if (data.buffers.length) add({ type: "map", name: "scratchpad" }, 260);
    return y + 4;
  };

  const width = () => canvas.clientWidth - GUTTER - 8;
  const x = time => GUTTER + (time - view[0]) / (view[1] - view[0]) * width();
  const time = px => view[0] + (px - GUTTER) / width() * (view[1] - view[0]);

  // The first row of a flat table, sorted by its column `column`, whose value is greater than `value`.
  const after = (rows, size, column, value) => {
    let low = 0, high = rows.length / size;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle * size + column] > value) high = middle; else low = middle + 1;
    }
    return low;
  };

  const SECONDS = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];
  const seconds = cycles => {
    const value = cycles / data.frequency;
    const [scale, unit] = SECONDS.find(([s]) => Math.abs(value) >= s) || SECONDS[3];
    return `${+(value / scale).toPrecision(4)} ${unit}`;
  };
  const number = value => Math.round(value).toLocaleString("en-US");
  const bytes = n => n < 1024 ? `${n} B` : `${(n / 1024).toFixed(1)} KiB`;

  // --- drawing ---------------------------------------------------------------------------------

  const draw = () => {
    const height = layout(), ratio = devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, height);
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    box.dataset.tracks = tracks.length;
    ruler(height);
    for (const track of tracks) {
      context.fillStyle = colors.soft;
      context.textAlign = "left";
      context.fillText(track.name, 8, track.type === "map" || track.type === "curve" ? track.y + 9 : track.y + track.height / 2);
      context.save();
      context.beginPath();
      context.rect(GUTTER, track.y, width(), track.height);
      context.clip();
      painters[track.type](track);
      context.restore();
      context.fillStyle = colors.soft;
      if (track.type === "map") addresses(track);
      if (track.type === "curve") scale(track);
    }
  };

  const ruler = height => {
    const step = nice((view[1] - view[0]) / data.frequency / Math.max(2, width() / 110)) * data.frequency;
    context.strokeStyle = colors.line;
    context.fillStyle = colors.soft;
    context.textAlign = "center";
    for (let t = Math.ceil(view[0] / step) * step; t <= view[1] && step > 0; t += step) {
      const px = Math.round(x(t)) + .5;
      context.beginPath();
      context.moveTo(px, RULER - 4);
      context.lineTo(px, height);
      context.stroke();
      if (px > GUTTER + 14 && px < GUTTER + width() - 14) context.fillText(seconds(t), px, 10);
    }
  };

  const nice = value => {
    const power = 10 ** Math.floor(Math.log10(value || 1));
    return [1, 2, 5, 10].map(k => k * power).find(k => k >= value);
  };

  const slices = (track, rows, size, layerAt, boundAt) => {
    const last = after(rows, size, 0, view[1]), from = Math.max(0, after(rows, size, 0, view[0]) - 1);
    let edge = -1, before = "";
    for (let k = from; k < last; k++) {
      const at = k * size, begin = rows[at], layer = rows[at + layerAt];
      const left = x(begin), right = x(begin + rows[at + 1]), color = colors[data.names[rows[at + boundAt]]] || "#888";
      if (right - edge < .4 && color === before) continue;
      context.globalAlpha = chosen < 0 || chosen === layer ? 1 : .18;
      context.fillStyle = before = color;
      const gap = right - left > 3 ? .6 : 0;
      context.fillRect(left, track.y, Math.max(.7, right - left - gap), track.height);
      edge = right;
      label(data.names[layer], Math.max(left, GUTTER), Math.min(right, GUTTER + width()), track.y + track.height / 2);
    }
    context.globalAlpha = 1;
  };

  const label = (text, left, right, y) => {
    if (right - left < 34) return;
    const room = right - left - 8;
    let shown = text;
    for (let keep = text.length; context.measureText(shown).width > room; shown = "…" + text.slice(-keep)) {
      keep = Math.min(keep - 1, Math.floor(keep * room / context.measureText(shown).width) + 1);
      if (keep < 4) return; // the end of a name says more: names of one model begin alike
    }
    context.fillStyle = "#fff";
    context.textAlign = "left";
    context.fillText(shown, left + 4, y);
  };

  const painters = {
    critical: track => slices(track, data.critical, SPAN, 2, 3),
    engine: track => {
      context.fillStyle = colors.zebra;
      context.fillRect(GUTTER, track.y, width(), track.height);
      slices(track, track.rows, INSTRUCTION, 2, 4);
    },
    curve: track => {
      const { t, v } = track.curve, top = ceiling(track.curve);
      const y = value => track.y + track.height - value / top * (track.height - 3);
      context.beginPath();
      context.moveTo(GUTTER, y(0));
      const from = Math.max(0, upper(t, view[0]) - 1), last = upper(t, view[1]);
      for (let k = from; k < last; k++) {
        context.lineTo(Math.max(GUTTER, x(t[k])), y(v[k]));
        context.lineTo(x(k + 1 < t.length ? t[k + 1] : data.cycles), y(v[k]));
      }
      context.lineTo(x(Math.min(view[1], data.cycles)), y(0));
      const color = track.name === "power" ? colors.host : track.name === "spm held" ? colors.spm : colors.dram;
      context.globalAlpha = .35;
      context.fillStyle = color;
      context.fill();
      context.globalAlpha = 1;
      context.strokeStyle = color;
      context.stroke();
    },
    map: track => {
      const top = data.top, y = address => track.y + track.height * (1 - address / top), rows = data.buffers;
      context.fillStyle = colors.zebra;
      context.fillRect(GUTTER, track.y, width(), track.height);
      for (let at = 0; at < rows.length; at += BUFFER) {
        const left = Math.max(GUTTER, x(rows[at + 2])), right = Math.min(GUTTER + width(), x(rows[at + 3]));
        if (right < GUTTER || left > GUTTER + width()) continue;
        const high = y(rows[at + 1]), low = y(rows[at]), name = rows[at + 4];
        context.globalAlpha = chosen < 0 || chosen === name || chosen === rows[at + 7] ? .92 : .15;
        context.fillStyle = colors[data.kinds[rows[at + 5]]];
        context.fillRect(left, high, Math.max(.7, right - left), Math.max(.7, low - high));
        if (right - left > 4 && low - high > 3) {
          context.strokeStyle = colors.card;
          context.lineWidth = .8;
          context.strokeRect(left, high, right - left, low - high);
          context.lineWidth = 1;
        }
        if (low - high > 11) label(data.names[name], left, right, (high + low) / 2);
      }
      context.globalAlpha = 1;
    },
  };

  const upper = (list, value) => {
    let low = 0, high = list.length;
    while (low < high) { const m = (low + high) >> 1; if (list[m] > value) high = m; else low = m + 1; }
    return low;
  };
  const ceiling = curve => curve.most || (curve.top = curve.top || curve.v.reduce((a, b) => Math.max(a, b), 1e-12));

  const scale = track => {
    context.textAlign = "left";
    const top = ceiling(track.curve);
    context.fillText(`${+top.toPrecision(4)} ${track.curve.unit}`, 8, track.y + 23);
  };

  const addresses = track => {
    context.textAlign = "right";
    for (let k = 0; k <= 4; k++) {
      const y = track.y + track.height * (1 - k / 4);
      context.fillText(bytes(data.top * k / 4), GUTTER - 6, Math.min(track.y + track.height - 5, Math.max(track.y + 6, y)) + (k === 4 ? 16 : 0));
    }
  };

  // --- what is under the pointer ---------------------------------------------------------------

  const find = (px, py) => {
    const track = tracks.find(t => py >= t.y && py <= t.y + t.height), at = time(px);
    if (!track || px < GUTTER) return null;
    if (track.type === "engine" || track.type === "critical") {
      const critical = track.type === "critical";
      const rows = critical ? data.critical : track.rows, size = critical ? SPAN : INSTRUCTION;
      const k = after(rows, size, 0, at) - 1;
      const slack = 2 * (view[1] - view[0]) / width();
      if (k < 0 || at > rows[k * size] + rows[k * size + 1] + slack) return null;
      return critical ? onPath(rows, k * size) : instruction(track, rows, k * size);
    }
    if (track.type === "curve") {
      const k = upper(track.curve.t, at) - 1;
      return k < 0 ? null : { text: `${track.name}: ${track.curve.v[k]} ${track.curve.unit}\nat ${seconds(at)}` };
    }
    return buffer(at, data.top * (1 - (py - track.y) / track.height));
  };

  const when = (begin, cycles) => `${seconds(begin)} + ${seconds(cycles)} (${number(cycles)} cycles)`;
  const onPath = (rows, at) => ({
    begin: rows[at], end: rows[at] + rows[at + 1], layer: rows[at + 2],
    text: `${data.names[rows[at + 2]]}\non the critical path, bound by ${data.names[rows[at + 3]]}\n${when(rows[at], rows[at + 1])}`,
  });
  const instruction = (track, rows, at) => ({
    begin: rows[at], end: rows[at] + rows[at + 1], layer: rows[at + 2],
    text: `${data.names[rows[at + 2]]}\n${data.names[rows[at + 3]]} #${rows[at + 5]} on ${track.name}` +
      `${rows[at + 6] > 1 ? `, ${number(rows[at + 6])} instructions` : ""}\nbound by ${data.names[rows[at + 4]]}\n${when(rows[at], rows[at + 1])}`,
  });
  const buffer = (at, address) => {
    const rows = data.buffers;
    for (let k = rows.length - BUFFER; k >= 0; k -= BUFFER) {
      if (rows[k] <= address && address < rows[k + 1] && rows[k + 2] <= at && at < rows[k + 3]) {
        return {
          begin: rows[k + 2], end: rows[k + 3], layer: rows[k + 4],
          text: `${data.names[rows[k + 4]]} (${data.kinds[rows[k + 5]]})\n${bytes(rows[k + 1] - rows[k])} at ` +
            `0x${rows[k].toString(16)} to 0x${rows[k + 1].toString(16)}\nwritten by #${rows[k + 6]} for ${data.names[rows[k + 7]]}\n${when(rows[k + 2], rows[k + 3] - rows[k + 2])}`,
        };
      }
    }
    return null;
  };

  const point = event => {
    const place = canvas.getBoundingClientRect();
    return [event.clientX - place.left, event.clientY - place.top];
  };

  const show = event => {
    const [px, py] = point(event), found = find(px, py);
    tip.hidden = !found;
    if (!found) return;
    tip.textContent = found.text;
    const right = px + tip.offsetWidth + 24 > canvas.clientWidth;
    tip.style.left = (right ? Math.max(0, px - tip.offsetWidth - 12) : px + 14) + "px";
    tip.style.top = Math.max(0, Math.min(py + 14, canvas.clientHeight - tip.offsetHeight - 4)) + "px";
  };

  // --- moving ----------------------------------------------------------------------------------

  let waiting = false;
  const redraw = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
  const set = (begin, end) => {
    const span = Math.min(Math.max(end - begin, 20), Math.max(1, data.cycles));
    const from = Math.min(Math.max(0, begin), Math.max(1, data.cycles) - span);
    view = [from, from + span];
    redraw();
  };
  const zoom = (factor, center = (view[0] + view[1]) / 2) =>
    set(center - (center - view[0]) * factor, center + (view[1] - center) * factor);
  const move = part => set(view[0] + part * (view[1] - view[0]), view[1] + part * (view[1] - view[0]));
  const ACTIONS = { in: () => zoom(.5), out: () => zoom(2), left: () => move(-.3), right: () => move(.3), all: () => set(0, data.cycles) };
  const KEYS = { w: "in", s: "out", a: "left", d: "right", "+": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };

  for (const button of document.querySelectorAll("[data-do]")) button.onclick = () => ACTIONS[button.dataset.do]();
  box.onkeydown = event => { if (KEYS[event.key]) { ACTIONS[KEYS[event.key]](); event.preventDefault(); } };
  canvas.addEventListener("wheel", event => {
    if (event.ctrlKey || event.metaKey) zoom(event.deltaY > 0 ? 1.25 : .8, time(point(event)[0]));
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) move((event.deltaX || event.deltaY) / 1000);
    else return;
    event.preventDefault();
  }, { passive: false });
  let held = null;
  canvas.onpointerdown = event => { held = { px: event.clientX, view: [...view] }; canvas.setPointerCapture(event.pointerId); };
  canvas.onpointerup = () => { held = null; };
  canvas.onpointermove = event => {
    if (!held) { show(event); return; }
    const shift = (held.px - event.clientX) / width() * (held.view[1] - held.view[0]);
    set(held.view[0] + shift, held.view[1] + shift);
  };
  canvas.onpointerleave = () => { tip.hidden = true; };
  canvas.ondblclick = event => {
    const found = find(...point(event));
    if (found && found.end > found.begin) set(found.begin - (found.end - found.begin), found.end + (found.end - found.begin));
  };

  // --- a layer ---------------------------------------------------------------------------------

  const input = document.getElementById("find");
  const choose = (name, go) => {
    chosen = data.names.indexOf(name);
    input.value = chosen < 0 ? name : data.names[chosen];
    for (const row of document.querySelectorAll("tr[data-layer]")) row.classList.toggle("chosen", chosen >= 0 && row.dataset.layer === name);
    if (go && chosen >= 0) { bring(); box.scrollIntoView({ block: "center", behavior: "smooth" }); }
    redraw();
  };
  const bring = () => {
    let begin = Infinity, end = 0;
    for (const rows of data.engines.map(e => e.rows)) {
      for (let at = 0; at < rows.length; at += INSTRUCTION) {
        if (rows[at + 2] !== chosen) continue;
        begin = Math.min(begin, rows[at]);
        end = Math.max(end, rows[at] + rows[at + 1]);
      }
    }
    if (end > begin) set(begin - .1 * (end - begin), end + .1 * (end - begin));
  };
  input.oninput = () => choose(input.value, false);
  for (const each of document.querySelectorAll("[data-layer]")) {
    each.addEventListener("click", () => choose(each.classList.contains("chosen") ? "" : each.dataset.layer, true));
  }

  // --- tables ----------------------------------------------------------------------------------

  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v !== undefined ? cell.dataset.v : cell.textContent.trim();
    return text === "" ? NaN : isNaN(text) ? text.toLowerCase() : +text;
  };
  const order = (a, b) => {
    const missing = [a, b].map(v => typeof v === "number" && isNaN(v));
    if (missing[0] || missing[1]) return missing[0] - missing[1];
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.tabIndex = 0;
      head.onkeydown = event => { if (event.key === "Enter") head.click(); };
      head.onclick = () => {
        const direction = head.dataset.dir ? -head.dataset.dir : head.classList.contains("n") && column !== 1 ? -1 : 1;
        heads.forEach(h => delete h.dataset.dir);
        head.dataset.dir = direction;
        const body = table.tBodies[0];
        const rows = [...body.rows].map(row => [value(row, column), row]);
        rows.sort((a, b) => {
          const blank = v => typeof v === "number" && isNaN(v);
          return blank(a[0]) || blank(b[0]) ? order(a[0], b[0]) : direction * order(a[0], b[0]);
        });
        body.append(...rows.map(pair => pair[1]));
      };
    });
  }
  for (const field of document.querySelectorAll(".filter")) {
    const rows = document.getElementById(field.dataset.table).tBodies[0].rows;
    field.oninput = () => {
      const wanted = field.value.toLowerCase();
      for (const row of rows) row.hidden = !(row.textContent + " " + [...row.cells].map(c => c.title).join(" ")).toLowerCase().includes(wanted);
    };
  }

  // --- start -----------------------------------------------------------------------------------

  readColors();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); draw(); });
  new ResizeObserver(redraw).observe(box);
  draw();
})();
