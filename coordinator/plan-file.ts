/** Text → plan: YAML or JSON, every problem named by field, every organization assigned once. */
import { parse } from "yaml";
import { z } from "zod";
import type { Assignments } from "../protocol/assignments.ts";
import { CleaveError } from "../protocol/errors.ts";
import { OrganizationId, type PodId } from "../protocol/ids.ts";
import { Plan } from "../protocol/plan.ts";

/** @throws CleaveError PLAN_INVALID naming line or field. JSON is YAML, so one parser reads both. */
export function parsePlan(text: string): Plan {
  let value: unknown;
  try {
    value = parse(text, { maxAliasCount: 0 });
  } catch (error) {
    throw new CleaveError("PLAN_INVALID", (error as Error).message, { cause: error });
  }
  return checkPlan(value);
}

export function checkPlan(value: unknown): Plan {
  const parsed = Plan.safeParse(value);
  if (!parsed.success) throw new CleaveError("PLAN_INVALID", z.prettifyError(parsed.error));
  return parsed.data;
}

/** One organization a line; empty lines and lines that begin with `#` are skipped. */
export function parseOrganizationList(text: string, name: string): OrganizationId[] {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  return lines.flatMap((line, index) => {
    if (line === "" || line.startsWith("#")) return [];
    const parsed = OrganizationId.safeParse(line);
    if (!parsed.success)
      throw new CleaveError("PLAN_INVALID", `${name}, line ${index + 1}: ${z.prettifyError(parsed.error)}`);
    return [parsed.data];
  });
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
