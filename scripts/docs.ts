/** Renders what the docs repeat from the code: the table of errors, the chart of the lifecycle, the metrics, the API. */
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { createApi } from "../coordinator/api/server.ts";
import { ERRORS } from "../protocol/errors.ts";
import { migrationMachine } from "../protocol/migration-machine.ts";
import { type Exposer, METRICS, type MetricSpec } from "../protocol/telemetry/catalogue.ts";
import { apiTypes } from "./api-types.ts";
import { CONFIGURATION_PAGE, configurationPage } from "./configuration.ts";

const ROOT = resolve(import.meta.dirname, "..");

export function errorsPage(): string {
  const rows = Object.entries(ERRORS).map(
    ([code, [summary, nextStep]]) => `| \`${code}\` | ${summary} | ${nextStep} |`,
  );
  const head = [
    "# Errors",
    "",
    "Rendered from `protocol/errors.ts` by `npm run docs`.",
    "",
    "| code | what happened | next step |",
    "|---|---|---|",
  ];
  return `${[...head, ...rows].join("\n")}\n`;
}

interface Target {
  readonly target?: string;
}

/** The machine as a Mermaid state diagram; events without a change of state are left out. */
export function lifecycleChart(): string {
  const lines = ["stateDiagram-v2", "  [*] --> planned"];
  for (const [name, state] of Object.entries(migrationMachine.config.states ?? {})) {
    const targets = new Map<string, string[]>();
    for (const [event, to] of Object.entries(
      (state.on ?? {}) as Record<string, Target | readonly Target[]>,
    )) {
      for (const { target } of Array.isArray(to) ? (to as readonly Target[]) : [to as Target]) {
        if (target === undefined) continue;
        targets.set(target, [...(targets.get(target) ?? []), event]);
      }
    }
    for (const [target, events] of targets) lines.push(`  ${name} --> ${target}: ${events.join(", ")}`);
    if (state.type === "final") lines.push(`  ${name} --> [*]`);
  }
  return lines.join("\n");
}

export function lifecycleStates(): string {
  const states = Object.entries(migrationMachine.config.states ?? {});
  return states.map(([name, state]) => `- **${name}**: ${state.description ?? ""}`).join("\n");
}

/** Replaces what stands between `<!-- name -->` and `<!-- /name -->`. */
export function replaceSection(text: string, name: string, content: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [text.indexOf(open), text.indexOf(close)];
  if (from < 0 || to < from) throw new Error(`no section ${name}`);
  return `${text.slice(0, from + open.length)}\n${content}\n${text.slice(to)}`;
}

export const LIFECYCLE_PAGE = join(ROOT, "docs/02-lifecycle.md");
export const ERRORS_PAGE = join(ROOT, "docs/errors.md");

export function lifecyclePage(current: string): string {
  const chart = replaceSection(current, "chart", `\`\`\`mermaid\n${lifecycleChart()}\n\`\`\``);
  return replaceSection(chart, "states", lifecycleStates());
}

export const TELEMETRY_PAGE = join(ROOT, "docs/12-telemetry.md");

const EXPOSERS: Record<Exposer, string> = {
  both: "Of every process",
  coordinator: "Of a coordinator",
  agent: "Of an agent, with the label `pod`",
};

/** The metrics as tables, one for each kind of process. */
export function metricsPage(current: string): string {
  const tables = (Object.keys(EXPOSERS) as Exposer[]).map((by) => {
    const rows = (Object.entries(METRICS) as [string, MetricSpec][])
      .filter(([, spec]) => spec.by === by)
      .map(([name, { kind, labels, help }]) => {
        const named = labels.map((label) => `\`${label}\``).join(", ");
        return `| \`${name}\` | ${kind} | ${named} | ${help} |`;
      });
    return [
      `${EXPOSERS[by]}:`,
      "",
      "| metric | kind | labels | meaning |",
      "|---|---|---|---|",
      ...rows,
    ].join("\n");
  });
  return replaceSection(current, "metrics", tables.join("\n\n"));
}

export const API_FILE = join(ROOT, "docs/openapi.json");

/** The API's description. It needs a coordinator as little as a map needs a traveller: none is asked anything. */
export async function apiDescription(): Promise<string> {
  const app = await createApi({
    service: {} as never,
    ready: () => false,
    problem: () => null,
    tokens: [],
    logger: {} as never,
    metrics: { meters: {} as never, public: false },
  });
  await app.ready();
  return `${JSON.stringify(app.swagger(), null, 2)}\n`;
}

export const API_TYPES_FILE = join(ROOT, "coordinator/cli/api-types.ts");

export const API_PAGE = join(ROOT, "docs/15-api.md");

/** The routes as a table, with the roles that their descriptions name. */
export function apiPage(current: string, description: string): string {
  const { paths } = JSON.parse(description) as {
    paths: Record<string, Record<string, { summary: string; description?: string }>>;
  };
  const rows = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, route]) => {
      const [, role = ""] = /Needs the role (`\w+`)\.$/.exec(route.description ?? "") ?? [];
      return `| \`${method.toUpperCase()} ${path}\` | ${role} | ${route.summary} |`;
    }),
  );
  return replaceSection(current, "routes", ["| | role | |", "|---|---|---|", ...rows].join("\n"));
}

if (import.meta.main) {
  const api = await apiDescription();
  writeFileSync(API_FILE, api);
  writeFileSync(API_PAGE, apiPage(readFileSync(API_PAGE, "utf8"), api));
  writeFileSync(API_TYPES_FILE, apiTypes(JSON.parse(api)));
  writeFileSync(ERRORS_PAGE, errorsPage());
  writeFileSync(LIFECYCLE_PAGE, lifecyclePage(readFileSync(LIFECYCLE_PAGE, "utf8")));
  writeFileSync(CONFIGURATION_PAGE, configurationPage());
  writeFileSync(TELEMETRY_PAGE, metricsPage(readFileSync(TELEMETRY_PAGE, "utf8")));
}
