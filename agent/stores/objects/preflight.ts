/** Checks that change nothing: may this Pod's objects be copied, and may this Pod take copies? */
import { toCleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { guarded } from "../common/findings.ts";
import { NamedItems } from "../common/verification/named.ts";
import { type ObjectsContext, scopeOf } from "./context.ts";
import { quoteKey } from "./inventory/keys.ts";
import type { SummaryAnswer } from "./replication/peer-protocol.ts";
import { PeerClient } from "./replication/source-feed.ts";

const MAX_NAMED = 5;
/** What a copy needs beyond the objects' own bytes: blocks, folders, the inventory. */
const ROOM_FACTOR = 1.05;

/**
 * Null when nothing is there, else what was found first. Of a move only what belongs to its organizations counts: the
 * Pod has others' objects.
 */
export async function targetIsEmpty(
  { backend, ownerLookup }: Pick<ObjectsContext, "backend" | "ownerLookup">,
  duty: Duty,
): Promise<string | null> {
  let found: string | null = null;
  const note = (name: string) => {
    if (duty.kind === "split") found ??= quoteKey(name);
  };
  const counts = duty.kind === "split" ? () => true : scopeOf(duty, ownerLookup);
  const listing = backend.list({ onTemporary: note, onUnlistable: note });
  for await (const { key } of listing) if (counts(key)) return quoteKey(key);
  return found;
}

export async function preflightSource(
  context: ObjectsContext,
  signal: AbortSignal,
): Promise<{ findings: Finding[]; summary: SummaryAnswer }> {
  const { backend, ownerLookup } = context;
  const findings: Finding[] = [];
  const summary = { objects: 0, bytes: 0 };
  try {
    await backend.checkAccess("read");
  } catch (error) {
    return { findings: [finding(error)], summary };
  }
  const unlistable: string[] = [];
  let unlistableCount = 0;
  let unowned = 0;
  let unownedExample = "";
  const onUnlistable = (name: string, reason: string) => {
    unlistableCount += 1;
    if (unlistable.length < MAX_NAMED) unlistable.push(`${quoteKey(name)} (${reason})`);
  };
  const leftBehind: string[] = [];
  let leftBehindCount = 0;
  const onTemporary = (name: string) => {
    leftBehindCount += 1;
    if (leftBehind.length < MAX_NAMED) leftBehind.push(quoteKey(name));
  };
  const there = new Set<string>();
  const listing = backend.list({ onUnlistable, onTemporary, onTemporaryFolder: onTemporary });
  for await (const { key, bytes } of listing) {
    signal.throwIfAborted();
    summary.objects += 1;
    summary.bytes += bytes;
    if (ownerLookup.namesObjects) there.add(key);
    if (ownerLookup.object(key) !== null) continue;
    unowned += 1;
    if (unownedExample === "") unownedExample = quoteKey(key);
  }
  try {
    // A disk may go while it is listed, and then less was listed than there is.
    await context.root.require();
  } catch (error) {
    findings.push(finding(error));
  }
  if (unlistableCount > 0)
    findings.push({
      store: "objects",
      severity: "error",
      code: "OBJECT_UNREADABLE",
      message:
        `${unlistableCount} entries below the root cannot be read as objects: ${unlistable.join(", ")}`.slice(
          0,
          2_000,
        ),
    });
  if (leftBehindCount > 0)
    findings.push({
      store: "objects",
      severity: "info",
      code: "LEFT_BEHIND",
      message: `${leftBehindCount} unfinished files, or folders of them, are left behind: ${leftBehind.join(", ")}`,
    });
  if (unowned > 0)
    findings.push({
      store: "objects",
      severity: "error",
      code: "OWNER_UNKNOWN",
      message: `${unowned} objects have no owner by the rules, for example ${unownedExample}`,
    });
  const named = new NamedItems({ ...context, store: "objects", there: async () => (key) => there.has(key) });
  findings.push(...(await guarded("objects", "POSTGRES_UNREACHABLE", signal, () => named.findings())));
  return { findings, summary };
}

export async function preflightTarget(
  context: ObjectsContext,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { backend, peers } = context;
  const findings: Finding[] = [];
  try {
    await backend.checkAccess("write");
    // A rollback's target holds what it is about.
    const found = duty.kind === "rollback" ? null : await targetIsEmpty(context, duty);
    if (found !== null)
      findings.push({
        store: "objects",
        severity: "error",
        code: duty.kind === "split" ? "OBJECTS_NOT_EMPTY" : "TARGET_HOLDS_ORGANIZATION",
        message: `${backend.place} has ${found}`,
      });
  } catch (error) {
    findings.push(finding(error));
  }
  const peer = peers[duty.sourcePodId];
  if (peer === undefined)
    return [
      ...findings,
      {
        store: "objects",
        severity: "error",
        code: "PEER_UNREACHABLE",
        message: `the configuration of ${duty.podId} has no peer ${duty.sourcePodId}`,
      },
    ];
  const client = new PeerClient(peer);
  try {
    const { bytes, objects } = await client.summary(signal);
    const free = (await backend.space().catch(() => null))?.freeBytes ?? null;
    // How much of it a move copies is not known before.
    if (duty.kind === "split" && free !== null && free < bytes * ROOM_FACTOR)
      findings.push({
        store: "objects",
        severity: "error",
        code: "DISK_FULL",
        message: `${backend.place} has ${free} bytes free; the source's ${objects} objects need ${bytes}`,
      });
  } catch (error) {
    signal.throwIfAborted();
    findings.push(finding(error));
  } finally {
    await client.close();
  }
  return findings;
}

function finding(error: unknown): Finding {
  const { code, message } = toCleaveError(error, "OBJECT_UNREADABLE");
  return { store: "objects", severity: "error", code, message: message.slice(0, 2_000) };
}
