// Differences between two stages: Myers' O(ND) algorithm over lines, blind to renumbering.

// Pairs [i, j] of equal entries of a and b, in order.
function longestCommon(a, b) {
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head++;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail++;
  const pairs = [];
  for (let i = 0; i < head; i++) pairs.push([i, i]);
  for (const [i, j] of myers(a.slice(head, a.length - tail), b.slice(head, b.length - tail))) pairs.push([i + head, j + head]);
  for (let k = tail; k > 0; k--) pairs.push([a.length - k, b.length - k]);
  return pairs;
}

const MOST_CHANGES = 4000;

function myers(a, b) {
  const most = Math.min(a.length + b.length, MOST_CHANGES);
  const reach = new Int32Array(2 * most + 3); // how far down `a` each diagonal k has got, at most + 1 + k
  const at = most + 1;
  const trace = [];
  for (let d = 0; d <= most; d++) {
    trace.push(reach.slice(at - d - 1, at + d + 2)); // diagonals -d - 1 to d + 1
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[at + k - 1] < reach[at + k + 1]);
      let x = down ? reach[at + k + 1] : reach[at + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[at + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a, b, d);
    }
  }
  return [];
}

function walkBack(trace, a, b, last) {
  const pairs = [];
  let x = a.length;
  let y = b.length;
  for (let d = last; d >= 0; d--) {
    const reach = (k) => trace[d][k + d + 1];
    const k = x - y;
    const down = k === -d || (k !== d && reach(k - 1) < reach(k + 1));
    const before = down ? k + 1 : k - 1;
    const fromX = d ? reach(before) : 0;
    const fromY = d ? fromX - before : 0;
    while (x > fromX && y > fromY) pairs.push([--x, --y]);
    x = fromX;
    y = fromY;
  }
  return pairs.reverse();
}

// The names of values in a line without the numbers that make them unique.
const NAMES = /%(?:\d+|[A-Za-z_]\w*?)\d*(?=\W|$)/g;

function lineKey(line) {
  return line.trim().replace(NAMES, (name) => name.replace(/\d+$/, "") + "_");
}

// Rows {sign: " " | "+" | "-", text, i}. Indentation does not count, nor do the numbers in values'
// names (`%12`, `%h1`), as long as each changes alike everywhere; arguments of regions are free.
function diffRows(before, after) {
  const pairs = longestCommon(before.map(lineKey), after.map(lineKey));
  const renamed = new Map();
  const taken = new Map();
  const free = new Set(after.flatMap((line) => (/^\s*\(%.*\):$/.test(line) ? line.match(NAMES) : [])));
  const same = (i, j) => {
    const old = before[i].match(NAMES) || [];
    const now = after[j].match(NAMES) || [];
    return old.every((name, n) => {
      if (free.has(now[n])) return true;
      if (!renamed.has(name) && !taken.has(now[n])) {
        renamed.set(name, now[n]);
        taken.set(now[n], name);
      }
      return renamed.get(name) === now[n];
    });
  };
  const rows = [];
  let i = 0;
  let j = 0;
  for (const [x, y] of [...pairs, [before.length, after.length]]) {
    while (i < x) rows.push({ sign: "-", text: before[i++] });
    while (j < y) rows.push({ sign: "+", text: after[j], i: j++ });
    if (x === before.length && y === after.length) break;
    if (same(x, y)) rows.push({ sign: " ", text: after[y], i: y });
    else rows.push({ sign: "-", text: before[x] }, { sign: "+", text: after[y], i: y });
    i = x + 1;
    j = y + 1;
  }
  return rows;
}

// Rows of any text, line by line.
function plainRows(before, after) {
  const rows = [];
  let [i, j] = [0, 0];
  for (const [x, y] of [...longestCommon(before, after), [before.length, after.length]]) {
    while (i < x) rows.push({ sign: "-", text: before[i++] });
    while (j < y) rows.push({ sign: "+", text: after[j], i: j++ });
    if (j < after.length) rows.push({ sign: " ", text: after[y], i: y });
    i = x + 1;
    j = y + 1;
  }
  return rows;
}

function countChanges(rows) {
  return [rows.filter((r) => r.sign === "+").length, rows.filter((r) => r.sign === "-").length];
}

// Rows with long stretches without a change folded away.
function foldRows(rows, context) {
  const near = rows.map(() => false);
  rows.forEach((row, n) => {
    if (row.sign === " ") return;
    for (let k = Math.max(n - context, 0); k <= Math.min(n + context, rows.length - 1); k++) near[k] = true;
  });
  const shown = [];
  for (let n = 0; n < rows.length; n++) {
    if (near[n]) {
      shown.push(rows[n]);
      continue;
    }
    const from = n;
    while (n + 1 < rows.length && !near[n + 1]) n++;
    if (n - from < 3) shown.push(...rows.slice(from, n + 1));
    else shown.push({ fold: rows.slice(from, n + 1) });
  }
  return shown;
}

// Find the line that each added line replaces, so that only what differs in it is marked.
function pairRows(rows) {
  for (let n = 0; n < rows.length; n++) {
    if (rows[n].sign !== "-") continue;
    let end = n;
    while (end < rows.length && rows[end].sign === "-") end++;
    let after = end;
    while (after < rows.length && rows[after].sign === "+") after++;
    if (end - n === after - end) {
      for (let k = 0; k < end - n; k++) [rows[n + k].other, rows[end + k].other] = [rows[end + k].text, rows[n + k].text];
    }
    n = after - 1;
  }
  return rows;
}

// A line coloured, with the part that its counterpart does not have marked.
function colourChange(text, other, kind) {
  let [head, tail] = [0, 0];
  while (head < text.length && text[head] === other[head]) head++;
  while (tail < Math.min(text.length, other.length) - head && text.at(-1 - tail) === other.at(-1 - tail)) tail++;
  while (head > 0 && !/[\s{}()]/.test(text[head - 1])) head--;
  while (tail > 0 && !/[\s{}()]/.test(text.at(-tail))) tail--;
  const end = text.length - tail;
  if (head === 0 || end - head > 0.8 * text.trim().length) return colour(text, kind);
  return `${colour(text.slice(0, head), kind)}<mark>${colour(text.slice(head, end), kind)}</mark>${colour(text.slice(end), kind)}`;
}

// A pane with the difference between two texts.
function diffPane(title, detail, before, after, kind, from) {
  const element = pane(title, detail);
  const rows = pairRows(kind === "ir" ? diffRows(before, after) : plainRows(before, after));
  const body = element.lastElementChild;
  const show = (items) => {
    const code = document.createElement("div");
    code.className = "code";
    for (const item of items) {
      if (item.fold) {
        const fold = document.createElement("button");
        fold.className = "fold";
        fold.textContent = `⋯ ${item.fold.length} unchanged lines`;
        fold.onclick = () => fold.replaceWith(...show(item.fold).childNodes);
        code.append(fold);
        continue;
      }
      const line = document.createElement("div");
      const found = item.i === undefined ? NOWHERE : from[item.i];
      line.dataset.sign = { "+": "add", "-": "del", " ": "" }[item.sign];
      if (item.i !== undefined) line.dataset.i = item.i;
      line.className = `${classes(found, false)} ${line.dataset.sign}`;
      const number = item.i === undefined ? "" : item.i + 1;
      const html = item.other === undefined ? colour(item.text, kind) : colourChange(item.text, item.other, kind);
      line.innerHTML = `<span class="n">${number}</span><span class="sign">${item.sign}</span><span>${html}</span>`;
      if (found !== NOWHERE) line.onclick = () => !String(getSelection()) && pick(found, element);
      code.append(line);
    }
    return code;
  };
  const changed = rows.some((row) => row.sign !== " ");
  if (changed) body.append(show(foldRows(rows, 3)));
  else body.innerHTML = '<p class="note">Nothing changed.</p>';
  element.mark = (scroll) => {
    let first = null;
    for (const line of body.querySelectorAll("[data-i]")) {
      line.className = `${classes(from[line.dataset.i], false)} ${line.dataset.sign}`;
      first = first || (line.classList.contains("sel") && line);
    }
    if (first && scroll) first.scrollIntoView({ block: "center" });
  };
  return element;
}
