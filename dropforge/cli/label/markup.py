"""What `dropforge label --page` shows: one page, its look and its script.

Each NONCE is replaced by a random text at every request, which the policy sent along asks for.
"""

from __future__ import annotations

from dropforge.page import STYLE

_LOOK = """
body{margin:0 auto;padding:1rem 1rem 0;min-height:100dvh;box-sizing:border-box;
display:flex;flex-direction:column}main{flex:1}
header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:baseline}
header h1{flex:1 0 auto;font-size:1.3rem}
header span{color:var(--soft);font-variant-numeric:tabular-nums}
progress{width:100%;height:.5rem;accent-color:var(--mark)}
h2{font-size:.85rem;color:var(--soft);margin:1rem 0 .2rem}
.text{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
#question{font-size:1.1rem}#reference,#earlier{color:var(--soft)}
.answers{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1rem;margin:1rem 0}
.answers section{border:1px solid var(--line);border-radius:.5rem;padding:0 1rem 1rem}
.bar{position:sticky;bottom:0;background:var(--paper);border-top:1px solid var(--line);
padding:.7rem 0;display:grid;grid-template-columns:repeat(6,minmax(0,1fr));gap:.5rem}
button{font:inherit;color:inherit;background:var(--paper);border:1px solid var(--soft);
border-radius:.5rem;padding:.4rem;cursor:pointer;grid-column:span 2}
button.big{min-height:3.4rem;font-weight:600;border:2px solid var(--mark)}
button:hover:enabled{border-color:var(--ink)}button:disabled{opacity:.45;cursor:default}
button:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
kbd{font:inherit;color:var(--soft);font-weight:400;font-size:.85rem}
#said{color:var(--bad);margin:.3rem 0;min-height:1.5rem}
#end li{margin:.6rem 0;overflow-wrap:anywhere}
[hidden]{display:none!important}
@media(max-width:40rem){header h1{font-size:1.1rem}
.answers{grid-template-columns:minmax(0,1fr);gap:.6rem}
button kbd{display:none}}
"""

_SCRIPT = """
const token = new URLSearchParams(location.search).get("token");
const at = id => document.getElementById(id);
let state = null, busy = false;

async function call(path, body) {
  if (busy) return;
  busy = true;
  try {
    const answer = await fetch(`${path}?token=${encodeURIComponent(token)}`, body && {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    const another = told.pair?.key !== state?.pair?.key;
    state = told;
    at("said").textContent = "";
    show(another);
  } catch (error) {
    at("said").textContent = error instanceof TypeError
      ? "The command has ended. Labels given so far are kept." : error.message;
  } finally {
    busy = false;
  }
}

function show(another) {
  const {pair, position, total, labelled, lines, who} = state;
  at("progress").max = total;
  at("progress").value = position;
  at("count").textContent = pair ? `pair ${position + 1} of ${total} · ${who}`
    : `${labelled} labelled · ${who}`;
  at("pair").hidden = !pair;
  at("before").hidden = !pair?.earlier;
  at("last").hidden = Boolean(pair) || Boolean(lines);
  at("bar").hidden = Boolean(lines);
  at("end").hidden = !lines;
  for (const id of ["left", "right", "tie", "skip"]) at(id).hidden = at(id).disabled = !pair;
  at("finish").classList.toggle("big", !pair);
  at("undo").disabled = position === 0;
  if (pair) for (const id of ["earlier", "question", "reference", "left-text", "right-text"])
    at(id).textContent = pair[id.replace("-text", "")];
  if (lines) at("lines").replaceChildren(...lines.map(line => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  if (another) scrollTo(0, 0);
}

const acts = {
  left: () => choose("left"), right: () => choose("right"), tie: () => choose("tie"),
  skip: () => choose("skip"), undo: () => call("/undo", {position: state.position}),
  finish: () => call("/finish", {}),
};
const choose = choice => call("/choose", {pair: state.pair.key, choice});
// The second click of a double one would label a pair that nobody has read.
for (const id of Object.keys(acts))
  at(id).addEventListener("click", event => { if (event.detail < 2) acts[id](); });

const keys = {l: "left", arrowleft: "left", r: "right", arrowright: "right", t: "tie", s: "skip",
  u: "undo"};
addEventListener("keydown", event => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !state) return;
  const button = keys[event.key.toLowerCase()];
  if (!button || at(button).disabled || state.lines) return;
  event.preventDefault();
  acts[button]();
});
call("/state");
"""

PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Which answer is better?</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,"><style nonce="NONCE">{STYLE}{_LOOK}</style></head><body>
<header><h1>Which answer is better?</h1><span id="count" role="status"></span></header>
<progress id="progress" value="0" max="1" aria-label="pairs done"></progress>
<main>
<div id="pair" hidden>
<div id="before"><h2>Before</h2><p class="text" id="earlier"></p></div>
<h2>The customer asks</h2><p class="text" id="question"></p>
<h2>The agent answered</h2><p class="text" id="reference"></p>
<div class="answers">
<section aria-label="left"><h2>Left</h2><p class="text" id="left-text"></p></section>
<section aria-label="right"><h2>Right</h2><p class="text" id="right-text"></p></section>
</div></div>
<p id="last" hidden>That was the last pair of this session. Finish shows how the judges agree.</p>
<div id="end" hidden><h2>How the judges agree with people</h2><ul id="lines"></ul>
<p>All labels are kept. This page can be closed.</p></div>
<p id="said" role="alert"></p>
</main>
<div class="bar" id="bar">
<button class="big" id="left" aria-keyshortcuts="l ArrowLeft">Left <kbd>L</kbd></button>
<button class="big" id="tie" aria-keyshortcuts="t">Tie <kbd>T</kbd></button>
<button class="big" id="right" aria-keyshortcuts="r ArrowRight">Right <kbd>R</kbd></button>
<button id="undo" aria-keyshortcuts="u">Undo <kbd>U</kbd></button>
<button id="skip" aria-keyshortcuts="s">Skip <kbd>S</kbd></button>
<button id="finish">Finish</button>
</div>
<script nonce="NONCE">{_SCRIPT}</script></body></html>
"""
"""Fetches `/state`, posts to `/choose`, `/undo` and `/finish`, and sets what comes back as text."""
