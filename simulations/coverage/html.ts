/** One page of everything that was reached, complete in itself: no script, no request to anywhere. */
import { MARKS } from "../../protocol/marks.ts";
import type { MutantTable } from "../commands/mutants.ts";
import { FAULT_KINDS } from "../faults/fault.ts";
import { type Coverage, cellsMet, holesIn, MESSAGE_WORDS, MESSAGES, messagesMet } from "./coverage.ts";
import { graphOfTheMachine, nameOf } from "./graph.ts";

const STYLE = `
:root { color-scheme: light dark; --line: #ccd; --quiet: #667; --good: #1a7f37; --bad: #c22; --fill: 26 127 55; }
@media (prefers-color-scheme: dark) { :root { --line: #334; --quiet: #99a; --good: #4ac26b; --bad: #ff7b72; --fill: 74 194 107; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .5rem; }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: Canvas; }
td.count { text-align: right; } .never { color: var(--bad); font-weight: 600; } .yes { color: var(--good); }
.quiet { color: var(--quiet); } code { font-size: .92em; }
ul.sum { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; }
ul.sum strong { display: block; font-size: 1.5rem; }
`;

export function coveragePage(coverage: Coverage, mutants: MutantTable | null): string {
  const { reachable } = graphOfTheMachine();
  const holes = holesIn(coverage);
  const { met, all } = cellsMet(coverage);
  const marks = Object.keys(MARKS).length;
  const sums: [string, string][] = [
    [coverage.runs.toLocaleString("en"), "seeds"],
    [`${reachable.length - holes.transitions.length} of ${reachable.length}`, "reachable transitions taken"],
    [`${marks - holes.marks.length} of ${marks}`, "marks passed"],
    [`${met} of ${all}`, "faults × states × messages met"],
  ];
  if (mutants !== null)
    sums.push([
      `${mutants.rows.filter(({ caught }) => caught).length} of ${mutants.rows.length}`,
      "mutants caught",
    ]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cleave: what the simulator reached</title>
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>What the simulator reached</h1>
<ul class="sum">${sums.map(([value, what]) => `<li><strong>${value}</strong>${what}</li>`).join("")}</ul>
${matrix(coverage)}
${messageMatrix(coverage)}
${transitions(coverage)}
${marksTable(coverage)}
${mutants === null ? "" : mutantTable(mutants)}
</main>
</body>
</html>
`;
}

/** Deeper for more. */
const shade = (share: number): string =>
  share > 0 ? ` style="background: rgb(var(--fill) / ${(0.08 + 0.5 * share).toFixed(2)})"` : "";

function matrix(coverage: Coverage): string {
  const { restingStates } = graphOfTheMachine();
  const row = (fault: string) => {
    const cells = restingStates.map((state) => {
      const found = messagesMet(coverage, fault, state);
      const words = found.map(([message, count]) => `${message}: ${count} seeds`).join("\n");
      return found.length === 0
        ? '<td class="count quiet">·</td>'
        : `<td class="count" title="${plain(words)}"${shade(found.length / MESSAGES.length)}>${found.length}</td>`;
    });
    return `<tr><th scope="row">${fault}</th>${cells.join("")}</tr>`;
  };
  return section(
    "Faults in each state",
    `Of ${MESSAGES.length} kinds of messages, how many were on their way while the fault was felt and the newest migration was in that state. Point at a number for which, and in how many seeds.`,
    ["fault", ...restingStates],
    FAULT_KINDS.map(row),
  );
}

function messageMatrix(coverage: Coverage): string {
  const { restingStates } = graphOfTheMachine();
  const row = (fault: string) => {
    const cells = MESSAGES.map((message) => {
      const found = restingStates.filter((state) => coverage.cells[`${fault} ${state} ${message}`]);
      return found.length === 0
        ? '<td class="count quiet">·</td>'
        : `<td class="count" title="${plain(found.join("\n"))}"${shade(found.length / restingStates.length)}>${found.length}</td>`;
    });
    return `<tr><th scope="row">${fault}</th>${cells.join("")}</tr>`;
  };
  const heads = MESSAGES.map((message) => `${message} (${MESSAGE_WORDS[message]})`);
  return section(
    "Faults and messages",
    `In how many of the ${restingStates.length} states a message of that kind was on its way while the fault was felt.`,
    ["fault", ...heads],
    FAULT_KINDS.map(row),
  );
}

const seeds = (count: number | undefined): string =>
  count ? `<td class="count">${count}</td>` : '<td class="count never">never</td>';

function transitions(coverage: Coverage): string {
  const { reachable, onlyForTotality } = graphOfTheMachine();
  const cells = ({ from, event, to }: (typeof reachable)[number]) =>
    `<td>${from}</td><td><code>${event}</code></td><td>${to === from ? '<span class="quiet">stays</span>' : to}</td>`;
  return section(
    "Transitions of the machine",
    "Read from the lifecycle machine itself, with the number of seeds that took each. Those at the end leave a state in which no record ends: they keep the fold total and are not counted.",
    ["from", "event", "to", "seeds"],
    [
      ...reachable.map(
        (transition) => `<tr>${cells(transition)}${seeds(coverage.transitions[nameOf(transition)])}</tr>`,
      ),
      ...onlyForTotality.map(
        (transition) => `<tr class="quiet">${cells(transition)}<td class="count">not counted</td></tr>`,
      ),
    ],
  );
}

function marksTable(coverage: Coverage): string {
  return section(
    "Marks",
    "Branches of the program that matter and are rare, with the number of seeds that passed each.",
    ["mark", "what happened there", "seeds"],
    Object.entries(MARKS).map(
      ([name, words]) =>
        `<tr><th scope="row"><code>${name}</code></th><td>${plain(words)}</td>${seeds(coverage.marks[name])}</tr>`,
    ),
  );
}

function mutantTable({ hunts, mostSeeds, rows }: MutantTable): string {
  return section(
    "Mutants",
    `Deliberate defects, the checkers that found them first, and after how many seeds (median of ${hunts} hunts of at most ${mostSeeds}).`,
    ["mutant", "the defect", "found by", "seeds"],
    rows.map(
      ({ name, says, by, median, caught }) =>
        `<tr><th scope="row"><code>${plain(name)}</code></th><td>${plain(says)}</td><td>${plain(by)}</td>${
          caught ? `<td class="count">${median ?? "–"}</td>` : '<td class="count never">not caught</td>'
        }</tr>`,
    ),
  );
}

function section(title: string, caption: string, heads: readonly string[], rows: readonly string[]): string {
  return `<section>
<h2>${title}</h2>
<div class="wide">
<table>
<caption>${plain(caption)}</caption>
<thead><tr>${heads.map((head) => `<th scope="col">${plain(head)}</th>`).join("")}</tr></thead>
<tbody>
${rows.join("\n")}
</tbody>
</table>
</div>
</section>`;
}

function plain(text: string): string {
  return text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
}
