/** Defects of deciding, folding, reacting and guarding. */
import type { Mutant } from "./mutant.ts";

const CONSENSUS = "coordinator/domain/consensus.ts";
const AGENT = "agent/loop/agent.ts";
const REACT = "agent/domain/react.ts";
const CLUSTER = "protocol/cluster.ts";

const without = (store: string): Mutant => ({
  name: `consensus-without-${store}`,
  says: `Exact consensus does not ask for ${store}.`,
  edits: [
    {
      file: CONSENSUS,
      find: "  const evidence: EvidenceTable = {};\n",
      replace: `  const evidence: EvidenceTable = {};\n  state = { ...state, stores: state.stores.filter((store) => store !== "${store}") };\n`,
    },
  ],
});

export const PROTOCOL_MUTANTS: readonly Mutant[] = [
  {
    name: "append-without-compare-and-set",
    says: "A decision is appended behind whatever the log's end is, and not behind what it was made on.",
    edits: [
      {
        file: "protocol/log-follower.ts",
        find: "this.#ports.log.append(record, before.sequence)",
        replace: "this.#ports.log.append(record, await this.#ports.log.lastSequence())",
      },
    ],
  },
  without("postgres"),
  without("git"),
  without("objects"),
  {
    name: "missing-voter-counts-as-yes",
    says: "A participant that has not reported is left out of the consensus.",
    edits: [
      {
        file: CONSENSUS,
        find: "if (!received || !status) waitingFor.push(`${podId}: ${storeLabel(store)}: no report`);",
        replace: "if (!received || !status || !status.reached) continue;",
      },
    ],
  },
  {
    name: "difference-is-ignored",
    says: "Targets have to have evidence, but it is not compared with the source's.",
    edits: [
      {
        file: CONSENSUS,
        find: "actual !== undefined && expected !== actual",
        replace: "actual === undefined",
      },
    ],
  },
  {
    name: "evidence-of-another-epoch",
    says: "Evidence counts whatever fence it was taken at, and before the fence was applied.",
    edits: [
      {
        file: CONSENSUS,
        find: "status.evidence?.epoch !== fence.epoch",
        replace: "status.evidence === null",
      },
      {
        file: CONSENSUS,
        find: "received.report.appliedSequence < fence.raisedSequence",
        replace: "received.report.appliedSequence < 0",
      },
      { file: CONSENSUS, find: "status.goal !== goal || !status.reached || ", replace: "" },
    ],
  },
  {
    name: "evidence-of-a-goal-not-reached",
    says: "A store names what it has while it still drains, and that counts as its evidence.",
    edits: [
      { file: CONSENSUS, find: "status.goal !== goal || !status.reached || ", replace: "" },
      {
        file: "simulations/models/files/store.ts",
        find: "this.set(duty, { evidence: null, stragglers: [] });",
        replace: `this.set(duty, { evidence: { epoch, digest: this.#inventoryDigest(duty), details: {} }, stragglers: [] });`,
      },
    ],
  },
  {
    name: "report-of-an-old-incarnation",
    says: "A report of an agent's former life replaces that of its present one.",
    edits: [
      {
        file: "coordinator/domain/observations.ts",
        find: "    if (older) {",
        replace: "    if (older && report.incarnation === known.incarnation) {",
      },
    ],
  },
  {
    name: "incarnation-does-not-grow",
    says: "A restarted agent reports under its former incarnation.",
    edits: [
      { file: AGENT, find: "Math.max((before?.incarnation ?? 0) + 1, options.clock.now())", replace: "1" },
    ],
  },
  {
    name: "open-before-the-stores",
    says: "A target opens before all of its stores are promoted and durable.",
    edits: [
      { file: AGENT, find: "part.opening || !this.#allReached(part) ||", replace: "part.opening ||" },
      {
        file: AGENT,
        find: `part.duty.goal === "open" && this.#allReached(part)`,
        replace: `part.duty.goal === "open"`,
      },
    ],
  },
  {
    name: "open-while-the-source-reads",
    says: "A target does not wait for the source's read lease.",
    edits: [{ file: AGENT, find: "if (!silent()) {", replace: "if (silent() && !silent()) {" }],
  },
  {
    name: "lease-without-end",
    says: "A source that is cut off from the log goes on answering reads.",
    edits: [
      {
        file: "agent/loop/read-lease.ts",
        find: "return this.#clock.monotonic() - this.#askedAt < this.#leaseMs;",
        replace: "return this.#askedAt > Number.NEGATIVE_INFINITY;",
      },
    ],
  },
  {
    name: "lease-without-folding",
    says: "A read lease is renewed by an answer of the log, although what is in the log is not folded.",
    edits: [
      {
        file: "agent/loop/read-lease.ts",
        find: "if (this.#follower.state.sequence >= last)",
        replace: "if (last >= 0)",
      },
    ],
  },
  {
    name: "reopens-by-itself-at-the-deadline",
    says: "At the deadline the source serves again without asking the log.",
    edits: [
      {
        file: AGENT,
        find: "await this.#follower.decideAndAppend((state, now) => decideLowering(state, this.#self, now));",
        replace: `for (const part of this.#participations.values()) {
          if (part.duty.role !== "source" || part.duty.goal !== "fence") continue;
          const shares = Object.fromEntries(part.duty.targetPodIds.map((id) => [id, "source"])) as never;
          for (const worker of part.workers.values()) worker.assign({ ...part.duty, goal: "serve", shares });
        }`,
      },
      {
        file: "agent/domain/guard.ts",
        find: "      if (write) {",
        replace: "      if (write && local.now < (migration.context.fence?.deadlineAt ?? 0) + 300) {",
      },
    ],
  },
  {
    name: "a-fence-is-never-lowered",
    says: "Nobody lowers a fence whose deadline has passed.",
    edits: [
      {
        file: "protocol/fence-deadline.ts",
        find: "fence !== null && now >= fence.deadlineAt",
        replace: "fence !== null && now < 0",
      },
    ],
  },
  {
    name: "abort-after-the-transfer",
    says: "A migration can be aborted while its targets are opening.",
    edits: [
      {
        file: "coordinator/domain/commands.ts",
        find: `"matching", "transferring"],`,
        replace: `"matching", "transferring", "activating"],`,
      },
      {
        file: "protocol/migration-machine.ts",
        find: `      on: {
        Opened: [`,
        replace: `      on: {
        MigrationAborted: abort,
        Opened: [`,
      },
    ],
  },
  {
    name: "source-serves-until-the-target-opens",
    says: "After the transfer the source is authoritative until the target has opened.",
    edits: [
      {
        file: CLUSTER,
        find: `return share === "opened" ? "opened" : "transferred";`,
        replace: `return share === "opened" ? "opened" : "source";`,
      },
    ],
  },
  {
    name: "target-writes-before-its-opening-is-logged",
    says: "A target admits writes as soon as it is promoted.",
    edits: [
      {
        file: REACT,
        find: "targets.map((podId) => [podId, sharePhase(migration, podId)])",
        replace: `targets.map((podId) => [podId, sharePhase(migration, podId) === "transferred" ? "opened" : sharePhase(migration, podId)])`,
      },
      {
        file: "agent/domain/guard.ts",
        find: `? { outcome: "opening" } : { outcome: "wrongPod", podId: target };\n    case "opened"`,
        replace: `? { outcome: "allow" } : { outcome: "wrongPod", podId: target };\n    case "opened"`,
      },
    ],
  },
  {
    name: "opens-what-was-revoked",
    says: "A share that was given back can still be opened.",
    edits: [
      {
        file: "agent/domain/own-decisions.ts",
        find: `if (transfer?.epoch !== epoch || shares[self] !== "closed") return [];`,
        replace: `if (transfer?.epoch !== epoch || shares[self] === "opened") return [];`,
      },
      {
        file: "protocol/migration-machine.ts",
        find: `return context.shares[podId] === "closed" ? { ...context.shares, [podId]: to } : context.shares;`,
        replace: "return { ...context.shares, [podId]: to };",
      },
      { file: REACT, find: `return share === "closed" ? "activate" : null;`, replace: `return "activate";` },
    ],
  },
  {
    name: "revocation-leaves-the-route",
    says: "The route of a share that went back still names the target.",
    edits: [{ file: CLUSTER, find: " || layer.revoked[podId] !== undefined", replace: "" }],
  },
  {
    name: "epoch-is-used-again",
    says: "A second attempt raises its fence with the epoch of the first.",
    edits: [
      {
        file: "coordinator/domain/decide.ts",
        find: "const epoch = (state.epoch + 1) as Epoch;",
        replace: "const epoch = Math.max(1, state.epoch) as Epoch;",
      },
    ],
  },
  {
    name: "reached-whatever-the-duty",
    says: "What a store has reached for an earlier duty counts for the present one.",
    edits: [
      {
        file: "agent/loop/store-worker.ts",
        find: "return this.#reachedKey === dutyKey(duty);",
        replace: "return this.#reachedKey !== null || dutyKey(duty) === null;",
      },
    ],
  },
  {
    name: "shares-are-no-part-of-a-duty",
    says: "A store is not told again when only the shares changed.",
    edits: [
      {
        file: REACT,
        find: "    shares,\n    duty.reverseReplication,",
        replace: "    shares.length,\n    duty.reverseReplication,",
      },
    ],
  },
  {
    name: "the-fence-is-skipped",
    says: "The source goes on serving while it is fenced.",
    edits: [
      {
        file: REACT,
        find: `return isSource ? "fence" : "match";`,
        replace: `return isSource ? "serve" : "match";`,
      },
    ],
  },
  {
    name: "retention-ends-by-itself",
    says: "A migration that retains has what it left behind removed, without an operator and without a time in its plan.",
    edits: [
      {
        file: "coordinator/domain/decide.ts",
        find: "if (endsAt === null || now < endsAt) return NOTHING;",
        replace: "if (endsAt !== null && now < endsAt) return NOTHING;",
      },
    ],
  },
  {
    name: "missing-cleaner-counts-as-done",
    says: "A Pod that has not reported that it removed everything is left out of the question whether all is removed.",
    edits: [
      {
        file: CONSENSUS,
        find: "    return notReached(state, found, [migration.context.filesRemoved",
        replace:
          "    if (podId !== migration.sourcePodId) return [];\n    return notReached(state, found, [migration.context.filesRemoved",
      },
    ],
  },
  {
    name: "waits-for-a-share-that-went-back",
    says: "A target that gave its share back, most often because it is gone, is waited for in the removal.",
    edits: [
      {
        file: CONSENSUS,
        find: 'migration.kind !== "split" || shares[podId] !== "revoked"',
        replace: "true",
      },
    ],
  },
  {
    name: "cleans-while-retained",
    says: "The source removes what it left behind as soon as everything is open elsewhere, and not when the retention is over.",
    edits: [
      {
        file: REACT,
        find: '      if (isSource) return "yield";\n      if (share === "opened") return "open";',
        replace:
          '      if (isSource) return migration.lifecycle === "retaining" ? "removeFiles" : "yield";\n      if (share === "opened") return "open";',
      },
      { file: REACT, find: 'migration.lifecycle === "cleaning"\n', replace: "true\n" },
      {
        file: "agent/domain/removal.ts",
        find: 'migration?.lifecycle === "cleaning" && migration.context.paused === null',
        replace: "true",
      },
    ],
  },
];
