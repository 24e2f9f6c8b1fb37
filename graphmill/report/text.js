// Text panes: colours, lines that know the user's lines they come from, selection.

const TOKENS = {
  ir: [
    [/^\/\/.*/, "c"], [/^"(?:[^"\\]|\\.)*"/, "s"], [/^%[\w]+/, "v"], [/^@[\w.$]+/, "y"], [/^dense<sha256:\w+>/, "s"],
    [/^(?:bool|[iu](?:8|16|32|64)|b?f(?:16|32|64)|c(?:64|128)|token)\b(?:\[[^\]]*\])?/, "t"],
    [/^(?:func|return|yield|variable|dims|attrs|true|false|none)\b/, "k"],
    [/^-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)\b/, "d"],
    [/^[a-z_][\w.]*(?==)/, "c"], [/^[a-z_][\w.]*/, "o"],
  ],
  mlir: [
    [/^\/\/.*/, "c"], [/^"(?:[^"\\]|\\.)*"/, "s"], [/^%[\w$.#-]+/, "v"], [/^[@^][\w.$]+/, "y"],
    [/^!?(?:llvm\.ptr|index|none|vector<[^>]*>|[iu]\d+|b?f\d+)\b>?/, "t"],
    [/^-?(?:0x[0-9A-Fa-f]+|\d+\.?\d*(?:[eE][-+]?\d+)?)\b/, "d"], [/^[a-z_]\w*\.[\w.]+/, "o"],
    [/^(?:module|func|iter_args|to|step|attributes|else)\b/, "k"], [/^[\w#]+/, ""],
  ],
  llvm: [
    [/^;.*/, "c"], [/^"(?:[^"\\]|\\.)*"/, "s"], [/^%[\w$.-]+/, "v"], [/^[@!#][\w.$]+/, "y"],
    [/^(?:i\d+|half|bfloat|float|double|ptr|void|label|metadata|<[^>]*>)(?=[\s,)*]|$)/, "t"],
    [/^(?:define|declare|target|attributes|ret|br|call|tail|phi|load|store|getelementptr|select)\b/, "k"],
    [/^-?(?:0x[0-9A-Fa-fKHRL]+|\d+\.?\d*(?:e[-+]?\d+)?)\b/, "d"], [/^[a-z_][\w.]*/, "o"],
  ],
  asm: [
    [/^[#;].*/, "c"], [/^\/\/.*/, "c"], [/^"(?:[^"\\]|\\.)*"/, "s"], [/^[\w.$]+:/, "y"],
    [/^\.[\w.]+/, "c"], [/^%?(?:[xyz]mm\d+|k[0-7]|[re]?[abcd]x|[re]?[sd]i|[re]?[sb]p|r\d+[dwb]?|rip)\b/, "v"],
    [/^[$#]?-?(?:0x[0-9a-fA-F]+|\d+)\b/, "d"], [/^[a-z][\w.]*/, "o"],
  ],
  python: [
    [/^#.*/, "c"], [/^[rbfu]*"""(?:.*?""")?/i, "s"], [/^[rbfu]*(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')/i, "s"],
    [/^@[\w.]+/, "y"], [/^\d[\w.]*/, "d"],
    [/^(?:def|return|if|else|elif|for|while|in|import|from|as|with|class|lambda|not|and|or|None|True|False|is|yield|raise|try|except|finally|pass|break|continue|assert|global|nonlocal|del)\b/, "k"],
    [/^[A-Za-z_]\w*(?=\()/, "o"], [/^[A-Za-z_]\w*/, ""],
  ],
  text: [],
};

function escapeHtml(text) {
  return text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}

// One line as coloured HTML.
function colour(line, kind) {
  const rules = TOKENS[kind] || [];
  if (!rules.length || line.length > 4000) return escapeHtml(line);
  let html = "";
  let at = 0;
  outer: while (at < line.length) {
    const rest = line.slice(at);
    const space = /^[\s]+|^[(){}\[\]<>,=:*+|&!?/-]/.exec(rest);
    for (const [pattern, name] of rules) {
      const match = pattern.exec(rest);
      if (!match || !match[0]) continue;
      const text = escapeHtml(match[0]);
      const key = name === "v" ? ` data-v="${text}"` : "";
      html += name ? `<span class="${name}"${key}>${text}</span>` : text;
      at += match[0].length;
      continue outer;
    }
    const step = space ? space[0] : rest[0];
    html += escapeHtml(step);
    at += step.length;
  }
  return html;
}

// A line's comment: `file.py:12`, in IR with a scope, below it with the op's value, for several ops.
const COMMENT = /\s(?:\/\/|;|#) (\S.*:\d+(?: .*)?)$/;
const NOWHERE = { locs: new Set(), names: new Set(), around: new Set() };

// What each line of a stage comes from: the user's lines (`locs`) and the ops' values (`names`); `around`
// are all lines of the kernel, for instructions that compute no single op, such as its loops.
function origins(of, number) {
  const stage = of.stages[number];
  if (!stage.origins) stage.origins = stage.kind === "ir" ? irOrigins(linesOf(stage)) : kernelOrigins(linesOf(stage), stage.kind, of.kernels);
  return stage.origins;
}

// The line that opens a region comes from all that is inside.
function irOrigins(lines) {
  const open = [];
  return lines.map((line) => {
    const match = COMMENT.exec(line);
    const code = match ? line.slice(0, match.index) : line;
    const results = /^\s*(%\w+: .*?) = /.exec(code);
    const own = { locs: new Set(), names: new Set(results ? results[1].match(/%\w+(?=:)/g) : []), around: NOWHERE.locs };
    if (match) own.locs.add(match[1].replace(/(:\d+) in .*$/, "$1").trim());
    for (const outer of open.slice(1)) for (const loc of own.locs) outer.locs.add(loc);
    if (/^\s*}/.test(code)) open.pop();
    if (/\{\s*$/.test(code)) open.push(own);
    return own;
  });
}

function kernelOrigins(lines, kind, kernels) {
  const start = {
    mlir: /func(?:\.func)?\s.*@"?([\w.$]+)"?\(/, llvm: /^define\s.*@"?([\w.$]+)"?\(/, asm: /^"?([\w.$]+)"?:/,
  }[kind];
  const known = new Map();
  let around = NOWHERE;
  return lines.map((line) => {
    const match = start && start.exec(line);
    if (match && !match[1].startsWith(".L")) {
      const of = kernels.filter((k) => match[1] === k.name || match[1].startsWith(`${k.name}_`));
      around = of.length ? { ...NOWHERE, around: new Set(of.flatMap((k) => k.locs)) } : NOWHERE;
    }
    const here = around;
    if (kind !== "asm" && /^\s{0,2}}/.test(line)) around = NOWHERE;
    const said = COMMENT.exec(line);
    if (!said) return here;
    if (!known.has(said[1])) known.set(said[1], commentOrigin(said[1]));
    return known.get(said[1]);
  });
}

function commentOrigin(text) {
  const found = { locs: new Set(), names: new Set(), around: NOWHERE.locs };
  for (const part of text.split(", ")) {
    const match = /^(.*?:\d+)((?: %\w+)*)(?: …)?$/.exec(part);
    if (!match) continue;
    found.locs.add(match[1]);
    for (const name of match[2].match(/%\w+/g) || []) found.names.add(name);
  }
  return found;
}

function overlap(a, b) {
  const [few, many] = a.size < b.size ? [a, b] : [b, a];
  for (const one of few) if (many.has(one)) return true;
  return false;
}

const fromLines = (locs) => ({ ...NOWHERE, locs: new Set(locs) });

// Each of the user's lines has a colour: turning by the golden angle keeps neighbours apart.
const hueOf = (loc) => Math.round(Number(/\d+$/.exec(loc)[0]) * 137.5) % 360;

// ---- panes

const CHUNK = 100;
const HEIGHT = 19; // of a line, in pixels; the style says it too

function pane(title, detail, side) {
  const element = document.createElement("section");
  element.className = side ? "pane side" : "pane";
  element.innerHTML = `<h2><b>${escapeHtml(title)}</b><span>${escapeHtml(detail)}</span></h2><div class="body"></div>`;
  return element;
}

// A pane of lines, each with an origin; what is not near the window is not built. `named`: whether the
// values' names mean the same as in machine code.
function textPane(title, detail, lines, kind, from, side, named) {
  const element = pane(title, detail, side);
  const body = element.lastElementChild;
  const code = document.createElement("div");
  code.className = "code";
  for (let i = 0; i < lines.length; i += CHUNK) {
    const chunk = document.createElement("div");
    chunk.dataset.from = i;
    chunk.style.height = `${HEIGHT * Math.min(CHUNK, lines.length - i)}px`;
    code.append(chunk);
  }
  const paint = (chunk) => {
    for (const line of chunk.children) {
      const now = classes(from[line.dataset.i], named) + (element.hits && element.hits.has(Number(line.dataset.i)) ? " hit" : "");
      if (line.className !== now) line.className = now;
    }
  };
  const build = (chunk) => {
    let html = "";
    const first = Number(chunk.dataset.from);
    for (let i = first; i < Math.min(first + CHUNK, lines.length); i++) {
      const [loc] = from[i].locs;
      const stripe = loc === undefined ? "" : ` style="--hue:${hueOf(loc)}"`;
      html += `<div data-i="${i}"><span class="n"${stripe}>${i + 1}</span><span>${colour(lines[i], kind)}</span></div>`;
    }
    chunk.innerHTML = html;
    paint(chunk);
  };
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !entry.target.firstChild) build(entry.target);
  }, { root: body, rootMargin: "1500px" });
  for (const chunk of code.children) watch.observe(chunk);
  body.append(code);
  element.lines = lines;
  element.from = from;
  element.named = named;
  element.show = (i) => { body.scrollTop = Math.max(HEIGHT * (i + 0.5) - body.clientHeight / 2, 0); };
  element.mark = (scroll) => {
    for (const chunk of code.children) if (chunk.firstChild) paint(chunk);
    if (!scroll || !state.locs.size) return;
    const found = (only) => from.findIndex((one) => overlap(one.locs, state.locs) && only(one));
    const tries = [found((one) => one.locs.size <= state.locs.size), found(() => true)]; // shared code last
    if (named && state.names.size) tries.unshift(found((one) => overlap(one.names, state.names)));
    const first = tries.find((i) => i >= 0);
    if (first !== undefined) element.show(first);
  };
  const lineOf = (event) => event.target.closest("[data-i]");
  code.addEventListener("click", (event) => {
    const line = lineOf(event);
    if (line && !String(getSelection())) pick(from[line.dataset.i], element);
  });
  code.addEventListener("mouseover", (event) => {
    const line = lineOf(event);
    hover(line ? from[line.dataset.i] : NOWHERE);
    for (const old of code.querySelectorAll(".v.same")) old.classList.remove("same");
    const name = event.target.dataset && event.target.dataset.v;
    if (name) for (const other of code.querySelectorAll(`.v[data-v="${CSS.escape(name)}"]`)) other.classList.add("same");
  });
  code.addEventListener("mouseleave", () => hover(NOWHERE));
  return element;
}

// The classes of a line: whether it can be picked, is picked, comes from the very op that is picked, or
// from the line under the pointer.
function classes(origin, named) {
  let found = "ln";
  if (origin.locs.size || origin.around.size) found += " can";
  if (overlap(origin.locs, state.locs)) found += named && overlap(origin.names, state.names) ? " sel exact" : " sel";
  if (overlap(origin.locs, state.near)) found += " near";
  return found;
}
