"""How the page looks, on light and on dark screens."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #6a7280; --paper: #ffffff;
  --line: #d9dde3; --draft_model: #1d7f46; --ngram: #0f6f96; --alternative: #9a36ad;
  --grammar: #3556c4;
  --target: #4b5563; --unknown: #6a7280; --wasted: #b3402e; --waited: #d9822b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa2ad; --paper: #15181c;
  --line: #343a42; --draft_model: #5fd38d; --ngram: #5cc3ea; --alternative: #d98be6;
  --grammar: #8fa8ff;
  --target: #a9b1bc; --unknown: #9aa2ad; --wasted: #f08a78; --waited: #f0a85c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { color: var(--soft); } dd { margin: 0; }
pre, .answer, td.tokens { font-family: ui-monospace, monospace; font-size: .9rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
pre, .answer { border: 1px solid var(--line); border-radius: 6px; padding: .7rem; margin: .5rem 0; }
.draft_model { color: var(--draft_model); } .ngram { color: var(--ngram); }
.alternative { color: var(--alternative); } .grammar { color: var(--grammar); }
.target { color: var(--target); }
.unknown { color: var(--unknown); } .wasted { color: var(--wasted); text-decoration: line-through; }
.waited { color: var(--waited); }
.lines { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
svg { display: block; font: 11px system-ui, sans-serif; }
svg text { fill: var(--soft); } svg .tick { stroke: var(--line); }
svg .draft_model { fill: var(--draft_model); } svg .ngram { fill: var(--ngram); }
svg .alternative { fill: var(--alternative); } svg .grammar { fill: var(--grammar); }
svg .target { fill: var(--target); }
svg .unknown { fill: var(--unknown); } svg .waited { fill: var(--waited); }
svg .prompt { fill: var(--line); } svg .hidden { fill: var(--draft_model); opacity: .45; }
svg .wasted { fill: none; stroke: var(--wasted); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
th.number, td.number { text-align: right; white-space: nowrap; }
"""
