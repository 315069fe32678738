/** Text → plan: YAML or JSON, every problem named by field and line, every organization assigned once. */
import { isMap, isScalar, isSeq, LineCounter, parseDocument, type Document as YamlDocument } from "yaml";
import type { z } from "zod";
import type { Assignments } from "../../protocol/assignments.ts";
import { CleaveError } from "../../protocol/errors.ts";
import { OrganizationId, type PodId } from "../../protocol/ids.ts";
import { Plan } from "../../protocol/plan.ts";
import { renamedSettings } from "../../protocol/renamed.ts";
import { describeProblems } from "./plan-problems.ts";

/**
 * Larger plans have to be JSON: reading YAML of this size takes about a second, and the reader may be a
 * coordinator that has decisions to make.
 */
export const YAML_LIMIT_BYTES = 1024 * 1024;

/** @throws CleaveError PLAN_INVALID naming field and line. What begins with a brace is tried as JSON first. */
export function parsePlan(text: string): Plan {
  if (/^\s*\{/.test(text)) {
    const json = readJson(text);
    if (json !== undefined) {
      const parsed = Plan.safeParse(renamed(json));
      if (parsed.success) return parsed.data;
      throw invalid(parsed.error, text.length > YAML_LIMIT_BYTES ? null : readYaml(text));
    }
  }
  const bytes = Buffer.byteLength(text);
  if (bytes > YAML_LIMIT_BYTES) {
    throw new CleaveError(
      "PLAN_INVALID",
      `${bytes} bytes of YAML: write a plan of more than ${YAML_LIMIT_BYTES} bytes as JSON, or put its organizations into files`,
    );
  }
  const document = readYaml(text);
  const parsed = Plan.safeParse(renamed(plainValue(document.yaml)));
  if (!parsed.success) throw invalid(parsed.error, document);
  return parsed.data;
}

/** Plans that were written when settings had other names are understood. */
function renamed(plan: unknown): unknown {
  if (typeof plan !== "object" || plan === null || !("settings" in plan)) return plan;
  return { ...plan, settings: renamedSettings(plan.settings) };
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // YAML has braces too, and its parser says in which line it goes wrong.
    return undefined;
  }
}

interface ReadYaml {
  readonly yaml: YamlDocument;
  readonly lines: LineCounter;
}

function readYaml(text: string): ReadYaml {
  const lines = new LineCounter();
  const yaml = parseDocument(text, { lineCounter: lines });
  const [error] = yaml.errors;
  if (error) throw new CleaveError("PLAN_INVALID", error.message.trim(), { cause: error });
  return { yaml, lines };
}

function plainValue(yaml: YamlDocument): unknown {
  keepOrganizationsAsWritten(yaml);
  try {
    return yaml.toJS({ maxAliasCount: 0 });
  } catch (error) {
    throw new CleaveError("PLAN_INVALID", (error as Error).message, { cause: error });
  }
}

/** To YAML `0017`, `1e3` and `0x11` are the numbers 17, 1000 and 17: other organizations than the ones written. */
function keepOrganizationsAsWritten(yaml: YamlDocument): void {
  const assignments = yaml.get("assignments", true);
  if (!isSeq(assignments)) return;
  for (const assignment of assignments.items) {
    const organizations = isMap(assignment) ? assignment.get("organizations", true) : null;
    if (!isSeq(organizations)) continue;
    for (const item of organizations.items)
      if (isScalar(item) && typeof item.value === "number" && item.source !== undefined)
        item.value = item.source;
  }
}

function invalid(error: z.ZodError, document: ReadYaml | null): CleaveError {
  return new CleaveError("PLAN_INVALID", describeProblems(error.issues, document));
}

/** One organization a line; empty lines and lines that begin with `#` are skipped. */
export function parseOrganizationList(text: string, name: string): OrganizationId[] {
  const result: OrganizationId[] = [];
  for (const [index, line] of text
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    const organization = line.trim();
    if (organization === "" || organization.startsWith("#")) continue;
    const parsed = OrganizationId.safeParse(organization);
    if (!parsed.success)
      throw new CleaveError(
        "PLAN_INVALID",
        `${name}, line ${index + 1}: ${parsed.error.issues.map((issue) => issue.message).join("; ")}`,
      );
    result.push(parsed.data);
  }
  return result;
}

/** Replaces `file:` assignments by what `read` gives for the file's name. */
export async function withFiles(plan: Plan, read: (file: string) => Promise<string>): Promise<Plan> {
  const assignments = await Promise.all(
    plan.assignments.map(async (assignment) => {
      if (!("file" in assignment)) return assignment;
      const organizations = parseOrganizationList(await read(assignment.file), assignment.file);
      if (organizations.length === 0)
        throw new CleaveError("PLAN_INVALID", `${assignment.file} names no organization`);
      return { pod: assignment.pod, organizations };
    }),
  );
  return { ...plan, assignments };
}

/** @throws CleaveError PLAN_ORGANIZATION_TWICE, or PLAN_INVALID for a file that was not replaced. */
export function assignmentsOfPlan(plan: Plan): Assignments {
  const assignments = new Map<OrganizationId, PodId>();
  for (const assignment of plan.assignments) {
    if ("file" in assignment) {
      throw new CleaveError(
        "PLAN_INVALID",
        `${assignment.file}: files are read by the command line, not by the coordinator`,
      );
    }
    for (const organization of assignment.organizations) {
      const before = assignments.get(organization);
      if (before !== undefined) {
        const where =
          before === assignment.pod ? `twice to ${before}` : `to ${before} and to ${assignment.pod}`;
        throw new CleaveError("PLAN_ORGANIZATION_TWICE", `organization ${organization} is assigned ${where}`);
      }
      assignments.set(organization, assignment.pod);
    }
  }
  return assignments;
}
