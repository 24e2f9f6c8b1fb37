// The graph, the memory plan, the timings.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes, parent, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function hue(text) {
  const known = { parameter: 210, loop: 265, reduce: 25, contract: 150, elementwise: 275, shape: 190, indexing: 330, control: 355, order: 50, effects: 0, random: 300 };
  if (text in known) return known[text];
  let sum = 0;
  for (const char of text) sum = (sum * 31 + char.charCodeAt(0)) % 360;
  return sum;
}

function tint(kind, strong) {
  const dark = document.documentElement.classList.contains("dark");
  const light = dark ? (strong ? 62 : 21) : strong ? 45 : 95;
  return `hsl(${hue(kind)} ${strong ? 45 : dark ? 28 : 70}% ${light}%)`;
}

// A smooth path through the points of an edge, ending a little above the node.
function edgePath(points, from, to, shift) {
  const [first, ...rest] = points;
  let [x, y] = [first[0], first[1] + from.h / 2];
  let path = `M${x} ${y}`;
  rest.forEach(([a, b], n) => {
    const last = n === rest.length - 1;
    const end = last ? b - to.h / 2 - 5 : b;
    if (last) a += shift;
    const middle = (y + end) / 2;
    path += ` C${x} ${middle} ${a} ${middle} ${a} ${end}`;
    [x, y] = [a, end];
  });
  return path;
}

// How far from its node's centre each edge ends, so that arrows into one node stand side by side.
function endShifts(graph) {
  const into = new Map();
  graph.edges.forEach((edge, e) => into.set(edge.to, [...(into.get(edge.to) || []), e]));
  const shifts = new Map();
  for (const [node, edges] of into) {
    const from = (e) => graph.edges[e].points.at(-2)[0];
    const gap = Math.min(18, (graph.nodes[node].w - 20) / edges.length);
    edges.sort((a, b) => from(a) - from(b)).forEach((e, k) => shifts.set(e, (k - (edges.length - 1) / 2) * gap));
  }
  return shifts;
}

function graphPane(graph, title) {
  const element = pane("graph", title);
  const body = element.lastElementChild;
  body.style.overflow = "hidden";
  body.style.display = "flex";
  const picture = svg("svg", { class: "canvas", width: "100%", height: "100%" });
  body.append(picture);
  svg("defs", {}, picture).innerHTML =
    '<marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="edge-head" d="M0 0L8 4L0 8z"/></marker>';
  const world = svg("g", {}, picture);
  const shifts = endShifts(graph);
  const edges = graph.edges.map((edge, e) => {
    const d = edgePath(edge.points, graph.nodes[edge.from], graph.nodes[edge.to], shifts.get(e));
    const path = svg("path", { class: "edge", d, "marker-end": "url(#head)" }, world);
    svg("title", {}, path, edge.type);
    return path;
  });
  const card = document.createElement("div");
  card.className = "card";
  card.hidden = true;
  const nodes = graph.nodes.map((node, n) => {
    const group = svg("g", { class: "node", transform: `translate(${node.x - node.w / 2} ${node.y - node.h / 2})` }, world);
    svg("rect", { width: node.w, height: node.h, fill: tint(node.kind), stroke: tint(node.kind, true) }, group);
    svg("text", { x: 9, y: 18, class: "head" }, group, node.op);
    node.lines.forEach((line, k) => svg("text", { x: 9, y: 33 + 15 * k, class: "sub" }, group, line));
    group.addEventListener("click", () => {
      edges.forEach((path, e) => path.classList.toggle("near", graph.edges[e].from === n || graph.edges[e].to === n));
      card.hidden = false;
      card.innerHTML = nodeCard(node);
      card.querySelector("button").onclick = () => (card.hidden = true);
      pick(fromLines(node.locs), element);
    });
    return group;
  });
  body.append(card, panZoom(picture, world, graph));
  if (graph.cut) svg("text", { x: 20, y: graph.height + 10 }, world, `… and ${graph.cut} more ops, not drawn`);
  element.mark = () => nodes.forEach((group, n) => group.classList.toggle("sel", graph.nodes[n].locs.some((loc) => state.locs.has(loc))));
  return element;
}

function nodeCard(node) {
  const rows = [["result", node.lines.join("\n")], ["from", node.locs.join(", ")], ["in", node.scope], ["why fused", node.reason], ["operations", node.flops], ["bytes", node.bytes]];
  const shown = rows.filter(([, value]) => value && value !== "0");
  return `<button style="float:right">✕</button><b>${escapeHtml(node.op)}</b><dl>${shown
    .map(([name, value]) => `<dt>${name}</dt><dd>${escapeHtml(String(value)).replace(/\n/g, "<br>")}</dd>`).join("")}</dl>`;
}

// Dragging moves, the wheel zooms at the pointer; returns the buttons.
function panZoom(picture, world, graph) {
  let [x, y, scale] = [0, 0, 1];
  const apply = () => world.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
  const fit = () => {
    const box = picture.getBoundingClientRect();
    if (!box.width) return;
    scale = Math.min(box.width / (graph.width + 20), box.height / (graph.height + 20), 1.15);
    scale = Math.max(scale, Math.min(0.5, box.width / (graph.width + 20)));
    [x, y] = [Math.max((box.width - graph.width * scale) / 2, 8), graph.height * scale < box.height ? (box.height - graph.height * scale) / 2 : 0];
    apply();
  };
  const zoom = (factor, px, py) => {
    const next = Math.min(Math.max(scale * factor, 0.05), 4);
    [x, y] = [px - ((px - x) * next) / scale, py - ((py - y) * next) / scale];
    scale = next;
    apply();
  };
  picture.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = picture.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 500), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  picture.addEventListener("pointerdown", (down) => {
    const [fromX, fromY] = [x - down.clientX, y - down.clientY];
    const move = (event) => {
      picture.classList.add("drag");
      [x, y] = [event.clientX + fromX, event.clientY + fromY];
      apply();
    };
    const up = () => {
      picture.classList.remove("drag");
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
  });
  requestAnimationFrame(fit);
  const tools = document.createElement("div");
  tools.className = "tools";
  const centre = (factor) => () => zoom(factor, picture.clientWidth / 2, picture.clientHeight / 2);
  for (const [label, act] of [["fit", fit], ["+", centre(1.3)], ["−", centre(1 / 1.3)]]) {
    const button = document.createElement("button");
    button.textContent = label;
    button.onclick = act;
    tools.append(button);
  }
  if (graph.hidden) tools.insertAdjacentHTML("beforeend", `<span class="dim">${graph.hidden} constant ops hidden</span>`);
  return tools;
}

function bytes(n) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) if (n >= size) return `${(n / size).toFixed(n >= 10 * size ? 0 : 1)} ${unit}`;
  return `${n} B`;
}

function memoryPane(memory) {
  const element = pane("memory", "the arena over the ops of the last IR stage, in order");
  const body = element.lastElementChild;
  const sizes = Object.entries(memory.sizes).map(([name, size]) => `${name} = ${size}`).join(", ");
  const sum = memory.buffers.reduce((total, b) => total + b.size, 0);
  const saved = sum && memory.peak ? ` — without reuse ${bytes(sum)} (${(sum / memory.peak).toFixed(1)}×)` : "";
  const holder = document.createElement("div");
  holder.className = "scroll";
  holder.innerHTML = `<h3>Peak ${bytes(memory.peak)}${saved}</h3><p class="dim">${
    sizes ? `arena = <code>${escapeHtml(memory.expression)}</code> bytes, drawn for ${escapeHtml(sizes)}. ` : ""
  }${memory.buffers.length} buffers. Inputs and outputs are the caller's and not shown.</p>`;
  body.append(holder);
  if (!memory.buffers.length) {
    holder.insertAdjacentHTML("beforeend", "<p>No arena: every value lives in the inputs, the outputs or registers.</p>");
    return element;
  }
  const [width, height, left, top] = [Math.max(720, Math.min(memory.steps * 60, 2400)), 420, 70, 8];
  const picture = svg("svg", { viewBox: `0 0 ${width + left + 20} ${height + 46}`, style: `width:100%;max-width:${width + left + 20}px` }, holder);
  const toX = (step) => left + (step / memory.steps) * width;
  const toY = (offset) => top + height - (offset / Math.max(memory.peak, 1)) * height;
  for (let k = 0; k <= 4; k++) {
    const at = (memory.peak * k) / 4;
    svg("line", { x1: left, x2: left + width, y1: toY(at), y2: toY(at), stroke: "var(--line)" }, picture);
    svg("text", { x: left - 8, y: toY(at) + 4, "text-anchor": "end", class: "sub" }, picture, bytes(Math.round(at)));
  }
  svg("text", { x: left, y: height + top + 24, class: "sub" }, picture, "first op");
  svg("text", { x: left + width, y: height + top + 24, class: "sub", "text-anchor": "end" }, picture, "last op");
  for (const buffer of memory.buffers) {
    const [x, w] = [toX(buffer.start), toX(buffer.end) - toX(buffer.start)];
    const [y, h] = [toY(buffer.offset + buffer.size), toY(buffer.offset) - toY(buffer.offset + buffer.size)];
    const group = svg("g", { class: "node" }, picture);
    svg("rect", { x, y, width: Math.max(w, 2), height: Math.max(h, 1), fill: tint(buffer.names[0]), stroke: tint(buffer.names[0], true) }, group);
    svg("title", {}, group, `${buffer.names.join(" = ")}\n${buffer.type} by ${buffer.op}\n${bytes(buffer.size)} at offset ${buffer.offset}\nops ${buffer.start} to ${buffer.end}\n${buffer.locs.join(", ")}`);
    if (h > 13 && w > 7 * buffer.names[0].length) svg("text", { x: x + 5, y: y + Math.min(h / 2 + 4, 15) }, group, buffer.names[0]);
    group.addEventListener("click", () => pick(fromLines(buffer.locs), element));
  }
  return element;
}

function duration(seconds) {
  return seconds >= 1 ? `${seconds.toFixed(2)} s` : seconds >= 1e-3 ? `${(seconds * 1e3).toFixed(1)} ms` : `${Math.round(seconds * 1e6)} µs`;
}

function timingsPane(compilation) {
  const element = pane("timings", compilation.name);
  const total = compilation.stages.reduce((sum, stage) => sum + stage.seconds, 0);
  const most = Math.max(...compilation.stages.map((stage) => stage.seconds), 1e-9);
  const stats = (stage) => {
    const { ops_before: before, ops_after: after, ...rest } = stage.stats || {};
    const ops = before === undefined ? "" : `${before} → ${after} ops`;
    const counts = Object.entries(rest).filter(([, v]) => v).map(([k, v]) => `${k.replace(/_/g, " ")}${v === 1 ? "" : ` ×${v}`}`);
    return [ops, ...counts].filter(Boolean).join(", ");
  };
  const rows = compilation.stages.map((stage) =>
    `<tr><td><code>${escapeHtml(stage.name)}</code></td><td class="num">${duration(stage.seconds)}</td><td><span class="bar" style="width:${(240 * stage.seconds) / most}px"></span></td><td class="dim">${escapeHtml(stats(stage))}</td></tr>`);
  const kernels = compilation.kernels.map((k) =>
    `<tr><td><code>${escapeHtml(k.name)}</code>${k.schedule ? `<br>${escapeHtml(k.schedule)}` : ""}</td><td>${k.locs.map((loc) => `<a class="loc" data-loc="${escapeHtml(loc)}">${escapeHtml(loc)}</a>`).join(" ")}</td><td class="num">${escapeHtml(String(k.flops ?? ""))}</td><td class="num">${escapeHtml(String(k.bytes ?? ""))}</td><td>${k.parallel ? "yes" : ""}</td></tr>`);
  const body = document.createElement("div");
  body.className = "scroll";
  body.innerHTML = `<h3>${duration(total)} in all</h3><table><tr><th>stage</th><th class="num">time</th><th></th><th>what it did</th></tr>${rows.join("")}</table>${
    kernels.length ? `<h3>${kernels.length} kernels</h3><table><tr><th>kernel</th><th>user's lines</th><th class="num">operations</th><th class="num">bytes</th><th>threads</th></tr>${kernels.join("")}</table>` : ""}`;
  body.addEventListener("click", (event) => event.target.dataset.loc && pick(fromLines([event.target.dataset.loc]), element));
  element.lastElementChild.append(body);
  return element;
}
