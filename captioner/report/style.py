"""The report's style sheet, for narrow and wide screens, light and dark."""

STYLE = """
:root { color-scheme: light dark; --line: #d4d4d8; --card: #fafafa; }
@media (prefers-color-scheme: dark) { :root { --line: #3f3f46; --card: #27272a; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 74rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
small { opacity: .75; } td small { display: block; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .35rem .7rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem; }
img { max-width: 100%; height: auto; border-radius: .25rem; }
.caption { margin: .4rem 0; } .caption small { white-space: nowrap; }
details ul { padding-left: 1.1rem; }
.badge { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
svg { width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; }
.grid { stroke: var(--line); }
.legend { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; }
.legend span { display: inline-block; width: 1.6rem; margin-right: .4rem; vertical-align: middle; }
.panels { display: flex; flex-wrap: wrap; gap: .5rem; } .panels figcaption { text-align: center; }
"""
