/** Checks before anything is changed, and again before the fence. They change nothing. */
import { toCleaveError } from "../../../protocol/errors.ts";
import type { Finding } from "../../../protocol/evidence.ts";
import type { Duty } from "../../../protocol/ports/store.ts";
import { guarded } from "../common/findings.ts";
import { Limiter } from "../common/limiter.ts";
import { NamedItems } from "../common/verification/named.ts";
import { inParallel, shuffled } from "../common/verification/sample.ts";
import { whatIsNotSeen } from "../file-fence/visibility.ts";
import type { GitContext } from "./context.ts";
import { finding } from "./finding.ts";
import { SourceFeed } from "./replication/source-feed.ts";

const CONCURRENCY = 4;
const NAMED_REPOSITORIES = 3;
/** A source's repositories whose objects are read before anything is copied, and for how long no more of them begin. */
const SAMPLED = 40;
const SAMPLE_MS = 5_000;

interface Left {
  readonly path: string;
  readonly left: readonly string[];
}

/** What is left behind on purpose (rule 14): of every repository, and what only some have, with their names. */
export function leftBehind(repositories: Iterable<Left>): Finding[] {
  const having = new Map<string, string[]>();
  let count = 0;
  for (const { path, left } of repositories) {
    count += 1;
    for (const what of left) having.set(what, [...(having.get(what) ?? []), path]);
  }
  if (count === 0) return [];
  const always =
    "left behind in every repository: commits and objects that no ref and no HEAD reaches, reflogs";
  return [
    finding("LEFT_BEHIND", `${always}, and what git makes from the rest (docs/08-limits.md)`, "info"),
    ...[...having].map(([what, paths]) => {
      const named = paths.slice(0, NAMED_REPOSITORIES).join(", ");
      const more = paths.length > NAMED_REPOSITORIES ? ` and ${paths.length - NAMED_REPOSITORIES} more` : "";
      return finding("LEFT_BEHIND", `left behind: ${what}, in ${named}${more}`, "warning");
    }),
  ];
}

/** What is broken here would be found only after it was copied, and then it could not be. */
async function damagedOfSample(
  { backend, clock }: GitContext,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const until = clock.monotonic() + SAMPLE_MS;
  // A large one that takes longer is no finding: nobody knows.
  const late = AbortSignal.any([signal, AbortSignal.timeout(2 * SAMPLE_MS)]);
  const mayBegin = () => !late.aborted && clock.monotonic() < until;
  await inParallel(CONCURRENCY, shuffled(paths).slice(0, SAMPLED), mayBegin, async (path) => {
    const why = await backend.verify(path, late).catch((thrown: unknown) => {
      signal.throwIfAborted();
      return late.aborted ? null : toCleaveError(thrown).message;
    });
    if (why !== null)
      findings.push(finding("REPOSITORY_UNREADABLE", `${path} is damaged: ${why}`.slice(0, 2_000)));
  });
  return findings;
}

export async function preflightSource(context: GitContext, signal: AbortSignal): Promise<Finding[]> {
  const { backend, ownerLookup } = context;
  const findings = await backend.checkSource();
  let listing: Awaited<ReturnType<typeof backend.list>>;
  let owners: ReadonlyMap<string, unknown>;
  try {
    listing = await backend.list(signal);
    await context.root.require();
    owners = await ownerLookup.repositories();
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toCleaveError(thrown, "FILE_PERMISSION");
    return [...findings, finding(error.code, error.message)];
  }
  findings.push(...(await whatIsNotSeen("git", { control: context.fence.directory, root: context.backend })));
  for (const problem of listing.problems) findings.push(finding("REPOSITORY_UNREADABLE", problem));
  const there = new Set(listing.repositories);
  const named = new NamedItems({ ...context, store: "git", there: async () => (path) => there.has(path) });
  findings.push(...(await guarded("git", "POSTGRES_UNREACHABLE", signal, () => named.findings())));
  const limiter = new Limiter(CONCURRENCY);
  const found: Left[] = [];
  const sound: string[] = [];
  await Promise.all(
    listing.repositories.map((path) =>
      limiter.run(async () => {
        signal.throwIfAborted();
        if (!owners.has(path) && (await ownerLookup.repository(path)) === null)
          findings.push(finding("OWNER_UNKNOWN", `repository ${path} has no owner by the rules`));
        const faults = await backend.checkRepository(path);
        findings.push(...faults);
        // Of what is refused, git might wait for ever at a pipe.
        if (faults.length === 0) sound.push(path);
        found.push({ path, left: await backend.leftBehind(path) });
      }),
    ),
  );
  findings.push(...(await damagedOfSample(context, sound, signal)));
  return [...findings, ...leftBehind(found)];
}

export async function preflightTarget(
  context: GitContext,
  duty: Duty,
  signal: AbortSignal,
): Promise<Finding[]> {
  const findings = await context.backend.checkTarget({ mustBeEmpty: duty.kind === "split" });
  try {
    await new SourceFeed(duty.sourcePodId, context.peers[duty.sourcePodId]).check(signal);
  } catch (thrown) {
    signal.throwIfAborted();
    const error = toCleaveError(thrown, "PEER_UNREACHABLE");
    findings.push(finding(error.code, error.message));
  }
  return findings;
}
