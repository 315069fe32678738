/**
 * The audit after the split: on the stores themselves, with nothing of the application and little of Cleave in
 * between. Everything that it looked at is told as a check, good or bad.
 */
import type { Ownership } from "../../../protocol/ownership.ts";
import type { PodLayout } from "../cluster/layout.ts";
import type { TrafficRepository } from "../traffic/git.ts";
import { expectations, type LedgerEntry } from "../traffic/ledger.ts";
import { compare } from "./acknowledged.ts";
import {
  type Contents,
  contentsOf,
  differences,
  type OrganizationContents,
  type RepositoryPlace,
} from "./baseline.ts";
import { type Check, checkOf } from "./check.ts";
import {
  checkIdentities,
  forbiddenAccesses,
  tryApplications,
  tryGit,
  tryGuards,
  tryObjects,
  trySql,
} from "./forbidden.ts";
import { foundOn, objectKey } from "./found.ts";

export interface CopiesOn {
  of(podId: string, organization: string): boolean;
  /** What belongs to nobody alone is as it was on Pod 0. */
  ofShared(podId: string): boolean;
}

/** Of a split: every Pod has a copy of everything. */
export const EVERYWHERE: CopiesOn = { of: () => true, ofShared: () => true };
/** Of moves from a Pod to others that have their own. */
export const onlyOn = (sourcePodId: string): CopiesOn => ({
  of: (podId) => podId === sourcePodId,
  ofShared: (podId) => podId === sourcePodId,
});

export interface AuditInput {
  /** Which dormant copies there have to be; of any other organization a Pod has nothing. */
  readonly copies: CopiesOn;
  /** The Pod whose dormant copies have to be level with the authoritative ones, or null. */
  readonly levelOn: string | null;
  readonly pods: readonly PodLayout[];
  /** Organization → the Pod that serves it now; all organizations. */
  readonly authorityOf: ReadonlyMap<string, string>;
  /** Organization → the Pod from which the last migration took it, where that was not `sourcePodId`. */
  readonly before: ReadonlyMap<string, string>;
  readonly sourcePodId: string;
  readonly ownership: Ownership;
  readonly repositories: readonly RepositoryPlace[];
  readonly trafficRepositories: readonly TrafficRepository[];
  readonly ledger: readonly LedgerEntry[];
  /** The prefix of the traffic's write ids. */
  readonly trafficRun: string;
  /** Pod 0 before the traffic began. */
  readonly baseline: Contents;
}

export interface AuditResult {
  readonly lostWrites: number;
  /** Writes that are there twice, and writes that no client ever made. */
  readonly duplicatedWrites: number;
  readonly checks: readonly Check[];
}

export async function audit(input: AuditInput, detail: (text: string) => void): Promise<AuditResult> {
  detail("every acknowledged write");
  const { checks: writes, ...counts } = await auditWrites(input);
  const level = input.levelOn === null ? [] : [await auditLevel(input, input.levelOn)];
  detail("every organization whole");
  const contents = await auditContents(input, detail);
  detail("what must be refused");
  const accesses = forbiddenAccesses(input.pods, input.authorityOf, input.before);
  const copies = accesses.filter(({ pod, organization }) => input.copies.of(pod.podId, organization));
  const dormant = input.repositories.flatMap(({ organization, path }) =>
    copies.filter((access) => access.organization === organization).map((access) => ({ access, path })),
  );
  const refused = [
    await checkIdentities(input.pods),
    await tryGuards(input.pods, input.authorityOf),
    await tryApplications(copies),
    await trySql(copies),
    await tryGit(onePerOrganization(dormant)),
    await tryObjects(input.pods, accesses, (organization, name) =>
      objectKey(organization, `traffic/${name}`),
    ),
  ];
  return { ...counts, checks: [...writes, ...level, ...contents, ...refused] };
}

async function auditWrites(input: AuditInput): Promise<AuditResult> {
  const expected = expectations(input.ledger);
  const lost: string[] = [];
  const duplicated: string[] = [];
  const unknown: string[] = [];
  let keys = 0;
  for (const pod of input.pods) {
    const here = [...input.authorityOf]
      .filter(([, podId]) => podId === pod.podId)
      .map(([organization]) => organization);
    const mine = new Map([...expected].filter(([, { organization }]) => here.includes(organization)));
    const repositories = input.trafficRepositories.filter(({ organization }) => here.includes(organization));
    const result = compare(mine, await foundOn(pod, here, repositories, input.trafficRun));
    keys += mine.size;
    lost.push(...result.lost.map((text) => `${pod.podId}: ${text}`));
    duplicated.push(...result.duplicated.map((text) => `${pod.podId}: ${text}`));
    unknown.push(...result.unknown.map((text) => `${pod.podId}: ${text}`));
  }
  const acknowledged = input.ledger.filter((entry) => entry.outcome === "acknowledged").length;
  return {
    lostWrites: lost.length,
    duplicatedWrites: duplicated.length + unknown.length,
    checks: [
      checkOf(
        "every acknowledged write is on its authoritative Pod",
        lost,
        `${acknowledged} writes of ${keys} issues, refs and objects`,
      ),
      checkOf("no write is there twice", duplicated, "none"),
      checkOf("nothing is there that no client wrote", unknown, "nothing"),
    ],
  };
}

/** What flowed back: every write that a new Pod acknowledged is in the dormant copy too, once. */
async function auditLevel(input: AuditInput, podId: string): Promise<Check> {
  const pod = input.pods.find((one) => one.podId === podId);
  const away = [...input.authorityOf].flatMap(([organization, at]) => (at === podId ? [] : [organization]));
  if (pod === undefined) return checkOf("dormant copies are level", [`there is no ${podId}`], "");
  const wanted = new Map(
    [...expectations(input.ledger)].filter(([, { organization }]) => away.includes(organization)),
  );
  const repositories = input.trafficRepositories.filter(({ organization }) => away.includes(organization));
  const result = compare(wanted, await foundOn(pod, away, repositories, input.trafficRun));
  return checkOf(
    `dormant copies on ${podId} have every write that their new Pods acknowledged`,
    [...result.lost, ...result.duplicated, ...result.unknown],
    `${wanted.size} issues, refs and objects of ${away.length} organizations`,
  );
}

/** Each organization on its Pod against what it was before; and its dormant copies, which nobody may have touched. */
async function auditContents(input: AuditInput, detail: (text: string) => void): Promise<Check[]> {
  const moved: string[] = [];
  const stayed: string[] = [];
  const dormant: string[] = [];
  let compared = 0;
  for (const pod of input.pods) {
    detail(`every organization whole, ${pod.podId}`);
    const actual = await contentsOf(pod, input.ownership, input.repositories, input.trafficRun);
    for (const [organization, podId] of input.authorityOf) {
      if (podId !== pod.podId && !input.copies.of(pod.podId, organization)) {
        dormant.push(...strays(actual.get(organization)).map((thing) => `${pod.podId} has ${thing}`));
        continue;
      }
      const expected = input.baseline.get(organization);
      compared += expected?.size ?? 0;
      const faults = differences(expected, actual.get(organization)).map(
        (thing) => `${pod.podId}, organization ${organization}: ${thing}`,
      );
      const group = podId !== pod.podId ? dormant : podId === input.sourcePodId ? stayed : moved;
      group.push(...faults);
    }
    if (input.copies.ofShared(pod.podId))
      dormant.push(
        ...differences(input.baseline.get(""), actual.get("")).map(
          (thing) => `${pod.podId}, shared: ${thing}`,
        ),
      );
  }
  return [
    checkOf(
      "moved organizations are whole on their new Pods",
      moved,
      `${compared} tables, repositories, files`,
    ),
    checkOf("organizations that stayed are untouched", stayed, "equal to before"),
    checkOf(
      "dormant copies and shared data are as they were, and there are no others",
      dormant,
      "equal to before",
    ),
  ];
}

/** What a Pod has of an organization that it never served. */
function strays(contents: OrganizationContents | undefined): string[] {
  return [...(contents ?? [])].flatMap(([thing, digest]) => (digest === "missing" ? [] : [thing]));
}

/** One repository of each organization on each wrong Pod: each try costs three processes. */
function onePerOrganization<T extends { readonly access: object }>(tries: readonly T[]): T[] {
  const seen = new Set<object>();
  return tries.filter(({ access }) => {
    if (seen.has(access)) return false;
    seen.add(access);
    return true;
  });
}
