/** The ownership graph as an SVG: the root on the left, every table one step from what its rows belong to. */
import type { TableRule } from "../../../../protocol/ownership.ts";
import type { Analysis, TableReport } from "./analyze.ts";
import { printable } from "./render.ts";

const BOX = { width: 230, height: 22, gapX: 70, gapY: 6 } as const;
const MARGIN = 20;
const COLORS = {
  "rules file": "#4c78a8",
  declared: "#2e7d32",
  measured: "#b26a00",
  partial: "#c62828",
  unexplained: "#c62828",
} as const;

const escapeText = (text: string) =>
  printable(text).replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);

function parentsOf(rule: TableRule | null, root: string, table: string): string[] {
  if (rule === null || table === root) return [];
  if ("organization" in rule) return [root];
  if ("parent" in rule) return [rule.parent];
  if ("typeColumn" in rule) return [...new Set(Object.values(rule.parents))];
  return [];
}

/** Self-contained; follows the reader's light or dark setting. Tables that no organization owns are listed below. */
export function renderDrawing(analysis: Analysis): string {
  const root = analysis.root.table;
  const depths = new Map<string, number>();
  const byName = new Map(analysis.tables.map((report) => [report.table, report]));
  const depthOf = (name: string, above: ReadonlySet<string>): number | null => {
    if (name === root) return 0;
    const known = depths.get(name);
    if (known !== undefined) return known;
    const report = byName.get(name);
    if (report === undefined || above.has(name)) return null;
    const parents = parentsOf(report.rule, root, name).map((parent) =>
      depthOf(parent, new Set([...above, name])),
    );
    const reached = parents.filter((depth) => depth !== null);
    if (reached.length === 0) return null;
    const depth = 1 + Math.max(...reached);
    depths.set(name, depth);
    return depth;
  };
  const columns: TableReport[][] = [];
  const rest: TableReport[] = [];
  for (const report of analysis.tables) {
    const depth = depthOf(report.table, new Set());
    if (depth === null) rest.push(report);
    else columns[depth] = [...(columns[depth] ?? []), report];
  }
  // Children stand near their parents, so that few lines cross.
  const position = new Map<string, { x: number; y: number }>();
  const rowsOf = Math.max(1, ...columns.map((column) => column.length));
  const height = rowsOf * (BOX.height + BOX.gapY);
  columns.forEach((column, depth) => {
    const middle = (report: TableReport) => {
      const parents = parentsOf(report.rule, root, report.table).map((name) => position.get(name)?.y ?? 0);
      return parents.reduce((sum, y) => sum + y, 0) / Math.max(1, parents.length);
    };
    const sorted = [...column].sort((a, b) => middle(a) - middle(b) || (a.table < b.table ? -1 : 1));
    const top = MARGIN + (height - sorted.length * (BOX.height + BOX.gapY)) / 2;
    sorted.forEach((report, row) => {
      position.set(report.table, {
        x: MARGIN + depth * (BOX.width + BOX.gapX),
        y: top + row * (BOX.height + BOX.gapY),
      });
    });
  });
  const perRow = Math.max(1, columns.length);
  rest.forEach((report, at) => {
    position.set(report.table, {
      x: MARGIN + (at % perRow) * (BOX.width + BOX.gapX),
      y: MARGIN + height + 40 + Math.floor(at / perRow) * (BOX.height + BOX.gapY),
    });
  });
  const lines = analysis.tables.flatMap((report) =>
    parentsOf(report.rule, root, report.table).flatMap((parent) => {
      const from = position.get(parent);
      const to = position.get(report.table);
      if (from === undefined || to === undefined) return [];
      const [x1, y1, x2, y2] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
      return [`<path d="M${x1} ${y1}C${x1 + 35} ${y1} ${x2 - 35} ${y2} ${x2} ${y2}"/>`];
    }),
  );
  const boxes = analysis.tables.flatMap((report) => {
    const at = position.get(report.table);
    if (at === undefined) return [];
    const color = COLORS[report.certainty];
    const name = escapeText(report.table.replace(/^public\./, ""));
    return [
      `<g><title>${escapeText(`${report.table}: ${report.certainty}: ${report.because}`)}</title><rect x="${at.x}" y="${at.y}" width="${BOX.width}" height="${BOX.height}" rx="4" style="stroke:${color}"/><text x="${at.x + 8}" y="${at.y + 15}">${name}</text></g>`,
    ];
  });
  const width = 2 * MARGIN + perRow * (BOX.width + BOX.gapX) - BOX.gapX;
  const restRows = Math.ceil(rest.length / perRow);
  const total = 2 * MARGIN + height + (rest.length > 0 ? 40 + restRows * (BOX.height + BOX.gapY) : 0);
  const caption =
    rest.length > 0 ? `<text x="${MARGIN}" y="${MARGIN + height + 28}">owned by no organization</text>` : "";
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" font-family="sans-serif" font-size="12" role="img" aria-label="Which table's rows belong to which">
<style>svg{background:#fff}path{fill:none;stroke:#999}rect{fill:#f7f7f7;stroke-width:1.5}text{fill:#111}@media(prefers-color-scheme:dark){svg{background:#111}rect{fill:#222}text{fill:#eee}path{stroke:#777}}</style>
${lines.join("\n")}
${boxes.join("\n")}
${caption}
</svg>
`;
}
