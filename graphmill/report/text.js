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

const LOCATION = /(?:\/\/|;|#)\s+([^\s:]+:\d+)(?: in .*)?\s*$/;

// For each line of a stage, the user's lines (`file.py:12`) it comes from.
function lineLocations(stage, compilation) {
  if (stage.locs) return stage.locs;
  const lines = stage.lines || (stage.lines = stage.text.replace(/\n$/, "").split("\n"));
  stage.locs = stage.kind === "ir" ? irLocations(lines) : kernelLocations(lines, stage.kind, compilation.kernels);
  return stage.locs;
}

// IR says it in comments; the line that opens a region has all that is inside too.
function irLocations(lines) {
  const open = [];
  return lines.map((line) => {
    const match = LOCATION.exec(line);
    const own = new Set(match ? [match[1]] : []);
    for (const outer of open.slice(1)) for (const loc of own) outer.add(loc);
    const code = match ? line.slice(0, match.index) : line;
    if (/^\s*}/.test(code)) open.pop();
    if (/\{\s*$/.test(code)) open.push(own);
    return own;
  });
}

// Below the IR a kernel's function has the lines of the kernel.
function kernelLocations(lines, kind, kernels) {
  const start = {
    mlir: /func(?:\.func)?\s.*@"?([\w.$]+)"?\(/, llvm: /^define\s.*@"?([\w.$]+)"?\(/, asm: /^"?([\w$]+)"?:/,
  }[kind];
  let now = new Set();
  const none = new Set();
  return lines.map((line) => {
    const match = start && start.exec(line);
    if (match) {
      const known = kernels.filter((k) => match[1] === k.name || match[1].startsWith(k.name + "_"));
      now = new Set(known.flatMap((k) => k.locs));
    }
    const here = now;
    if (kind !== "asm" && /^\s{0,2}}/.test(line)) now = none;
    return here;
  });
}

const CHUNK = 150;

// Fill `into` with lines; `row(i)` gives the HTML of a line's inside, `className(i)` its classes.
function fillLines(into, count, className, row) {
  const code = document.createElement("div");
  code.className = "code";
  let html = "";
  for (let from = 0; from < count; from += CHUNK) {
    const to = Math.min(from + CHUNK, count);
    html += `<div class="chunk" style="contain-intrinsic-size:auto ${(to - from) * 19.4}px">`;
    for (let i = from; i < to; i++) html += `<div class="ln ${className(i)}" data-i="${i}">${row(i)}</div>`;
    html += "</div>";
  }
  code.innerHTML = html;
  into.replaceChildren(code);
  return code;
}

function pane(title, detail, side) {
  const element = document.createElement("section");
  element.className = side ? "pane side" : "pane";
  element.innerHTML = `<h2><b>${escapeHtml(title)}</b><span>${escapeHtml(detail)}</span></h2><div class="body"></div>`;
  return element;
}

// A pane with a text whose lines can be picked.
function textPane(title, detail, lines, kind, locs, onPick, side) {
  const element = pane(title, detail, side);
  const code = fillLines(
    element.lastElementChild, lines.length, (i) => (locs[i].size ? "can" : ""),
    (i) => `<span class="n">${i + 1}</span><span>${colour(lines[i], kind)}</span>`,
  );
  element.locs = locs;
  code.addEventListener("click", (event) => {
    const line = event.target.closest(".ln");
    if (!line || String(getSelection())) return;
    const found = locs[Number(line.dataset.i)];
    if (found.size) onPick(found, element);
  });
  code.addEventListener("mouseover", (event) => {
    for (const old of code.querySelectorAll(".v.same")) old.classList.remove("same");
    const name = event.target.dataset && event.target.dataset.v;
    if (!name) return;
    for (const other of code.querySelectorAll(`.v[data-v="${CSS.escape(name)}"]`)) other.classList.add("same");
  });
  return element;
}

// Mark the lines that share a user's line with the selection and bring the first into view.
function markLines(element, selected, scroll) {
  let first = null;
  for (const line of element.querySelectorAll(".ln")) {
    const locs = element.locs && element.locs[Number(line.dataset.i)];
    const on = locs && [...locs].some((loc) => selected.has(loc));
    line.classList.toggle("sel", Boolean(on));
    if (on && !first) first = line;
  }
  if (first && scroll) first.scrollIntoView({ block: "center" });
}
