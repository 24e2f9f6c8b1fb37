// The page: what is shown, and how keys, clicks and the address change it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const VIEWS = ["text", "diff", "graph", "memory", "timings"];
const KINDS = { ir: "Graphmill IR", mlir: "MLIR", llvm: "LLVM IR", asm: "machine code", text: "notes" };
const state = { function: 0, stage: 0, view: "text", source: true, asm: false, selected: new Set() };
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

function pick(locs, from) {
  const again = locs.size && [...locs].every((loc) => state.selected.has(loc)) && locs.size === state.selected.size;
  state.selected = again ? new Set() : new Set(locs);
  mark(from);
}

function mark(from) {
  const place = [state.function, state.stage, state.view, state.asm ? "asm" : "", [...state.selected].join(",")];
  history.replaceState(null, "", `#${place.join("/").replace(/\/+$/, "")}`);
  for (const element of find("main").children) {
    if (element.mark) element.mark(state.selected);
    else markLines(element, state.selected, element !== from);
  }
  const shown = [...state.selected].join(", ");
  find("foot").innerHTML = shown
    ? `selected: ${escapeHtml(shown)} — click again to clear`
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
      const delta = changes(of, n);
      const what = one.unchanged ? "no change" : delta ? `<span class="plus">+${delta[0]}</span> <span class="minus">−${delta[1]}</span>` : `${linesOf(one).length} lines`;
      return `${head}<button class="stage ${n === state.stage ? "on" : ""}" data-n="${n}"><span class="no">${(/^\d+/.exec(one.file) || [""])[0]}</span><span class="name">${escapeHtml(one.name)}</span><span class="time">${duration(one.seconds)}</span><span class="more">${what}</span><span class="bar" style="width:${(100 * one.seconds) / most}%"></span></button>`;
    })
    .join("");
  const on = find("stages").querySelector(".on");
  if (on) on.scrollIntoView({ block: "nearest" });
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
  const names = sources.map(([name]) => name);
  const used = new Set(compilation().stages.flatMap((one) => (one.kind === "ir" ? lineLocations(one, compilation()).flatMap((s) => [...s]) : [])));
  return sources.map(([name, text]) => {
    const lines = text.replace(/\n$/, "").split("\n");
    const locs = lines.map((_, n) => new Set(used.has(`${name}:${n + 1}`) ? [`${name}:${n + 1}`] : []));
    const made = textPane(name, names.length > 1 ? "" : "the user's code", lines, "python", locs, pick, true);
    const first = locs.findIndex((set) => set.size);
    requestAnimationFrame(() => {
      const line = made.querySelectorAll(".ln")[Math.max(first - 3, 0)];
      if (line && !state.selected.size) line.scrollIntoView({ block: "start" });
    });
    return made;
  });
}

function stagePane() {
  const [of, one] = [compilation(), stage()];
  const kind = one.kind;
  const before = stageBefore(of, state.stage);
  const detail = `${KINDS[kind] || ""} · ${linesOf(one).length} lines · ${one.file || "as before"}`;
  if (state.view === "graph" && graphStage()) return graphPane(graphStage().graph, graphStage().name, pick);
  if (state.view === "memory" && of.memory) return memoryPane(of.memory, pick);
  if (state.view === "timings") return timingsPane(of, pick);
  const locs = lineLocations(one, of);
  if (state.view === "diff" && before) return diffPane(`${before.name} → ${one.name}`, detail, linesOf(before), linesOf(one), kind, locs, pick);
  return textPane(one.name, detail, linesOf(one), kind, locs, pick);
}

function show() {
  const of = compilation();
  state.stage = Math.min(state.stage, of.stages.length - 1);
  const asm = of.stages.filter((one) => one.kind === "asm").pop();
  const panes = [];
  if (state.source && state.view !== "timings") panes.push(...sourcePanes().slice(0, 1));
  panes.push(stagePane());
  if (state.asm && asm && (asm !== stage() || state.view !== "text")) {
    panes.push(textPane(asm.name, "machine code", linesOf(asm), "asm", lineLocations(asm, of), pick, true));
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
  for (const old of document.querySelectorAll(".ln.hit")) old.classList.remove("hit");
  const wanted = find("search").value.toLowerCase();
  const main = [...find("main").children].find((element) => !element.classList.contains("side"));
  hits = wanted && main ? [...main.querySelectorAll(".ln")].filter((line) => line.lastElementChild.textContent.toLowerCase().includes(wanted)) : [];
  for (const line of hits) line.classList.add("hit");
  hit = -1;
  find("hits").textContent = wanted ? `${hits.length} lines` : "";
}

function nextHit(step) {
  if (!hits.length) return;
  hit = (hit + step + hits.length) % hits.length;
  hits[hit].scrollIntoView({ block: "center" });
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
    "/": () => find("search").focus(), Escape: () => pick(state.selected, null),
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
  if (locs[0]) state.selected = new Set(locs.join("/").split(","));
  theme(matchMedia("(prefers-color-scheme: dark)").matches);
  find("function").innerHTML = DATA.map((one, n) => `<option value="${n}">${escapeHtml(one.name)}</option>`).join("");
  find("function").value = state.function;
  find("function").onchange = (event) => go({ function: Number(event.target.value), stage: 0, selected: new Set() });
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
