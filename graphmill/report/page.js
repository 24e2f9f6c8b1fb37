// The page: what is shown, and how keys, clicks and the address change it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const VIEWS = ["text", "diff", "graph", "memory", "timings"];
const KINDS = { ir: "Graphmill IR", mlir: "MLIR", llvm: "LLVM IR", asm: "machine code", text: "notes" };
const state = { function: 0, stage: 0, view: "text", source: true, asm: innerWidth >= 1500, locs: new Set(), names: new Set(), near: new Set() };
const find = (id) => document.getElementById(id);
const compilation = () => DATA[state.function];
const stage = () => compilation().stages[state.stage];

function linesOf(one) {
  return one.lines || (one.lines = one.text.replace(/\n$/, "").split("\n"));
}

// The last earlier stage of the same kind that has a text of its own.
function stageBefore(of, number) {
  if (of.stages[number].kind === "text") return null;
  const stages = of.stages;
  for (let n = number - 1; n >= 0; n--) if (stages[n].kind === stages[number].kind && !stages[n].unchanged) return stages[n];
  return null;
}

function changes(of, number) {
  const one = of.stages[number];
  if (one.changes !== undefined) return one.changes;
  const before = one.kind === "ir" && stageBefore(of, number);
  one.changes = before && !one.unchanged ? countChanges(diffRows(linesOf(before), linesOf(one))) : null;
  return one.changes;
}

const same = (a, b) => a.size === b.size && [...a].every((one) => b.has(one));

// Select what a line comes from (again: nothing), and show it in the panes other than `from`.
function pick(origin, from) {
  const locs = origin.locs.size ? origin.locs : origin.around;
  if (!locs.size && from) return;
  const again = same(locs, state.locs) && same(origin.names, state.names);
  Object.assign(state, again ? NOWHERE : { locs, names: origin.names });
  mark(from);
}

function hover(origin) {
  if (same(origin.locs, state.near)) return;
  state.near = origin.locs;
  for (const element of find("main").children) if (element.lines) element.mark(false);
}

function mark(from) {
  const place = [state.function, state.stage, state.view, state.asm ? "asm" : "", [...state.locs].join(",")];
  history.replaceState(null, "", `#${place.join("/").replace(/\/+$/, "")}`);
  for (const element of find("main").children) if (element.mark) element.mark(element !== from);
  const of = compilation();
  find("stages").querySelectorAll(".stage").forEach((button, n) => {
    const count = state.locs.size && of.stages[n].kind !== "text" ? origins(of, n).filter((one) => overlap(one.locs, state.locs)).length : 0;
    button.querySelector(".count").textContent = count || "";
  });
  const names = state.names.size ? ` (${[...state.names].slice(0, 4).join(" ")})` : "";
  const shown = `${[...state.locs].slice(0, 8).join(", ")}${state.locs.size > 8 ? " …" : ""}${names}`;
  find("foot").innerHTML = shown
    ? `selected: ${escapeHtml(shown)} — click again or <kbd>Esc</kbd> to clear; the numbers on the left count its lines in each stage`
    : 'click a line to see where it comes from and what becomes of it — <kbd>j</kbd> <kbd>k</kbd> stage, <kbd>t</kbd> text, <kbd>d</kbd> diff, <kbd>g</kbd> graph, <kbd>m</kbd> memory, <kbd>i</kbd> timings, <kbd>s</kbd> source, <kbd>a</kbd> assembly, <kbd>/</kbd> find';
}

// ---- the parts of the page

function showStages() {
  const of = compilation();
  const most = Math.max(...of.stages.map((one) => one.seconds), 1e-9);
  let group = "";
  find("stages").innerHTML = of.stages
    .map((one, n) => {
      const head = one.kind === group ? "" : `<div class="group">${KINDS[one.kind] || one.kind}</div>`;
      group = one.kind;
      return `${head}<button class="stage ${n === state.stage ? "on" : ""}" data-n="${n}"><span class="no">${(/^\d+/.exec(one.file) || [""])[0]}</span><span class="name">${escapeHtml(one.name)}</span><span class="time">${duration(one.seconds)}</span><span class="more"><span class="what">${whatChanged(one)}</span><span class="count" title="lines from what is selected"></span></span><span class="bar" style="width:${(100 * one.seconds) / most}%"></span></button>`;
    })
    .join("");
  const on = find("stages").querySelector(".on");
  if (on) on.scrollIntoView({ block: "nearest" });
  setTimeout(countLater, 0, of);
}

function whatChanged(one) {
  if (one.unchanged) return "no change";
  if (!one.changes) return `${linesOf(one).length} lines`;
  return `<span class="plus">+${one.changes[0]}</span> <span class="minus">−${one.changes[1]}</span>`;
}

// Compare one more stage with the one before it, when there is nothing else to do.
function countLater(of) {
  const n = of.stages.findIndex((one) => one.changes === undefined);
  if (n < 0 || of !== compilation()) return;
  changes(of, n);
  find("stages").querySelectorAll(".what")[n].innerHTML = whatChanged(of.stages[n]);
  setTimeout(countLater, 0, of);
}

function showViews() {
  const can = {
    diff: Boolean(stageBefore(compilation(), state.stage)), graph: Boolean(graphStage()),
    memory: Boolean(compilation().memory), text: true, timings: true,
  };
  find("views").innerHTML = VIEWS.map((view) => `<button data-view="${view}" class="${view === state.view ? "on" : ""}" ${can[view] ? "" : "disabled"}>${view}</button>`).join("");
}

// The graph of this stage, or of the last IR stage before it.
function graphStage() {
  for (let n = state.stage; n >= 0; n--) if (compilation().stages[n].graph) return compilation().stages[n];
  return null;
}

function sourcePanes() {
  const sources = Object.entries(compilation().sources);
  const of = compilation();
  const used = new Set(of.stages.flatMap((one, n) => (one.kind === "ir" ? origins(of, n).flatMap((o) => [...o.locs]) : [])));
  const uses = (name) => [...used].filter((loc) => loc.startsWith(`${name}:`)).length;
  return sources.sort((a, b) => uses(b[0]) - uses(a[0])).map(([name, text]) => {
    const lines = text.replace(/\n$/, "").split("\n");
    const from = lines.map((_, n) => (used.has(`${name}:${n + 1}`) ? fromLines([`${name}:${n + 1}`]) : NOWHERE));
    const made = textPane(name, "", lines, "python", from, true, false);
    const first = from.findIndex((one) => one.locs.size);
    requestAnimationFrame(() => { if (!state.locs.size) made.lastElementChild.scrollTop = HEIGHT * Math.max(first - 3, 0); });
    return made;
  });
}

function stagePane() {
  const [of, one] = [compilation(), stage()];
  const kind = one.kind;
  const before = stageBefore(of, state.stage);
  const detail = `${KINDS[kind] || ""} · ${linesOf(one).length} lines · ${one.file || "as before"}`;
  if (state.view === "graph" && graphStage()) return graphPane(graphStage().graph, graphStage().name);
  if (state.view === "memory" && of.memory) return memoryPane(of.memory);
  if (state.view === "timings") return timingsPane(of);
  const from = origins(of, state.stage);
  if (state.view === "diff" && before) return diffPane(`${before.name} → ${one.name}`, detail, linesOf(before), linesOf(one), kind, from);
  return textPane(one.name, detail, linesOf(one), kind, from, false, kind !== "ir" || state.stage === lastIr(of));
}

const lastIr = (of) => of.stages.findLastIndex((one) => one.kind === "ir");

function show() {
  const of = compilation();
  state.stage = Math.min(state.stage, of.stages.length - 1);
  const asm = of.stages.filter((one) => one.kind === "asm").pop();
  const panes = [];
  if (state.source && state.view !== "timings") panes.push(...sourcePanes().slice(0, 1));
  panes.push(stagePane());
  if (state.asm && asm && (asm !== stage() || state.view !== "text")) {
    panes.push(textPane(asm.name, "machine code", linesOf(asm), "asm", origins(of, of.stages.indexOf(asm)), true, true));
  }
  find("main").replaceChildren(...panes);
  showStages();
  showViews();
  find("show-source").checked = state.source;
  find("show-asm").checked = state.asm;
  find("show-asm").parentElement.hidden = !asm;
  find("show-source").parentElement.hidden = !Object.keys(of.sources).length;
  const total = of.stages.reduce((sum, one) => sum + one.seconds, 0);
  const ops = Object.keys(of.kernels).length;
  find("totals").textContent = `${of.stages.length} stages, ${duration(total)}${ops ? `, ${ops} kernel${ops > 1 ? "s" : ""}` : ""}`;
  search();
  mark(null);
}

// ---- finding

let hits = [];
let hit = -1;

function search() {
  const wanted = find("search").value.toLowerCase();
  const main = searched();
  hits = [];
  if (wanted && main) main.lines.forEach((line, i) => line.toLowerCase().includes(wanted) && hits.push(i));
  if (main) {
    main.hits = new Set(hits);
    main.mark(false);
  }
  hit = -1;
  find("hits").textContent = wanted ? (hits.length ? `${hits.length} line${hits.length > 1 ? "s" : ""}` : "nothing") : "";
}

// The pane of the stage's text, whose lines can be searched.
const searched = () => [...find("main").children].find((element) => element.lines && !element.classList.contains("side"));

function nextHit(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  searched().show(hits[hit]);
  find("hits").textContent = `${hit + 1} of ${hits.length}`;
}

// ---- wiring

function go(change) {
  Object.assign(state, change);
  const can = state.view !== "diff" || stageBefore(compilation(), state.stage);
  if (!can) state.view = "text";
  show();
}

function step(by) {
  const last = compilation().stages.length - 1;
  go({ stage: Math.min(Math.max(state.stage + by, 0), last), view: ["memory", "timings"].includes(state.view) ? "text" : state.view });
}

function onKey(event) {
  if (event.target.matches("input[type=search]")) {
    if (event.key === "Enter") nextHit(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
  const views = { t: "text", d: "diff", g: "graph", m: "memory", i: "timings" };
  const acts = {
    j: () => step(1), ArrowDown: () => step(1), k: () => step(-1), ArrowUp: () => step(-1),
    s: () => go({ source: !state.source }), a: () => go({ asm: !state.asm }),
    "/": () => find("search").focus(), Escape: () => pick(NOWHERE, null),
  };
  if (event.key in views) {
    const button = find("views").querySelector(`[data-view=${views[event.key]}]`);
    if (!button.disabled) go({ view: views[event.key] });
  } else if (event.key in acts) acts[event.key]();
  else return;
  event.preventDefault();
}

function theme(dark) {
  document.documentElement.classList.toggle("dark", dark);
}

function start() {
  const [number, at, view, asm, ...locs] = decodeURI(location.hash.slice(1)).split("/");
  if (number in DATA) state.function = Number(number);
  state.stage = Math.max(Math.min(Number(at) || 0, compilation().stages.length - 1), 0);
  if (VIEWS.includes(view)) state.view = view;
  state.asm = asm === "asm";
  if (locs[0]) state.locs = new Set(locs.join("/").split(","));
  theme(matchMedia("(prefers-color-scheme: dark)").matches);
  find("function").innerHTML = DATA.map((one, n) => `<option value="${n}">${escapeHtml(one.name)}</option>`).join("");
  find("function").value = state.function;
  find("function").onchange = (event) => go({ function: Number(event.target.value), stage: 0, ...NOWHERE });
  find("stages").onclick = (event) => {
    const button = event.target.closest(".stage");
    if (button) go({ stage: Number(button.dataset.n), view: ["memory", "timings"].includes(state.view) ? "text" : state.view });
  };
  find("views").onclick = (event) => event.target.dataset.view && go({ view: event.target.dataset.view });
  find("show-source").onchange = (event) => go({ source: event.target.checked });
  find("show-asm").onchange = (event) => go({ asm: event.target.checked });
  find("search").oninput = search;
  find("theme").onclick = () => {
    theme(!document.documentElement.classList.contains("dark"));
    show();
  };
  document.addEventListener("keydown", onKey);
  show();
}

start();
