/** The reference of both configuration files, from their schemas and the comments that stand in these. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { AgentFile } from "../agent/config.ts";
import { CoordinatorFile } from "../coordinator/config.ts";

const ROOT = resolve(import.meta.dirname, "..");
export const CONFIGURATION_PAGE = join(ROOT, "docs/configuration.md");

/** Where the comments of a section stand; by the first part of a field's path. */
const SECTIONS: Readonly<Record<string, string>> = {
  nats: "protocol/adapters/nats-config.ts",
  postgres: "agent/stores/postgres/config.ts",
  git: "agent/stores/git/config.ts",
  objects: "agent/stores/objects/config.ts",
  guard: "agent/guard/config.ts",
  hooks: "agent/hooks/config.ts",
  checks: "agent/hooks/config.ts",
  webhooks: "coordinator/webhooks/config.ts",
};

interface Node {
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly items?: Node;
  readonly additionalProperties?: Node | boolean;
  readonly anyOf?: readonly Node[];
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
}

export function configurationPage(): string {
  return `# Configuration

Rendered by \`npm run docs\` from the schemas that check the files. \`deploy/coordinator.example.yaml\` and
\`deploy/agent.example.yaml\` show them filled in. Unknown fields are refused; relative paths are relative to the file.
\`[]\` stands for each entry of a list, \`*\` for a name of your own. A field without default has to be given where it
says "required", if the section around it is given at all.

## cleave coordinator --config

${table(CoordinatorFile, "coordinator/config.ts")}

## cleave agent --config

${table(AgentFile, "agent/config.ts")}
`;
}

function table(schema: z.ZodType, file: string): string {
  const root = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }) as Node;
  const rows = [...fields(root, "")].map(([path, node, required]) => {
    const [section = ""] = path.split(/[.[]/);
    const name = path.replace(/\[\]$/, "").split(".").at(-1) ?? "";
    const meaning = comments(path === section ? file : (SECTIONS[section] ?? file)).get(name) ?? "";
    const given = required
      ? "required"
      : node.default === undefined
        ? ""
        : `\`${JSON.stringify(node.default)}\``;
    return `| \`${path}\` | ${typeOf(node)} | ${given} | ${meaning} |`;
  });
  return ["| field | type | default | meaning |", "|---|---|---|---|", ...rows].join("\n");
}

function* fields(node: Node, prefix: string): Generator<[path: string, node: Node, required: boolean]> {
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    const path = `${prefix}${name}`;
    const inner = child.properties ?? null;
    if (inner === null || Object.keys(inner).length === 0)
      yield [path, child, (node.required ?? []).includes(name)];
    else yield* fields(child, `${path}.`);
    if (child.items?.properties) yield* fields(child.items, `${path}[].`);
    const more = child.additionalProperties;
    if (typeof more === "object" && more.properties) yield* fields(more, `${path}.*.`);
  }
}

function typeOf(node: Node): string {
  if (node.enum) return node.enum.map((one) => `\`${one}\``).join(", ");
  if (node.anyOf) return [...new Set(node.anyOf.map(typeOf))].join(" or ");
  if (node.type === "array") return `list of ${typeOf(node.items ?? {})}`;
  if (node.type === "integer") {
    const { minimum = Number.MIN_SAFE_INTEGER, maximum = Number.MAX_SAFE_INTEGER } = node;
    const bounded = minimum > Number.MIN_SAFE_INTEGER && maximum < Number.MAX_SAFE_INTEGER;
    return bounded ? `${minimum} to ${maximum}` : "integer";
  }
  return node.type === "string" ? "text" : node.type === "boolean" ? "true, false" : "section";
}

/** What is said right above a field, in one line. */
function comments(file: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const text = readFileSync(join(ROOT, file), "utf8");
  for (const [, comment = "", name = ""] of text.matchAll(/\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(\w+):/g)) {
    const line = comment.replace(/\s*\n\s*\* ?/g, " ").trim();
    if (!found.has(name)) found.set(name, line.replaceAll("|", "\\|"));
  }
  return found;
}
