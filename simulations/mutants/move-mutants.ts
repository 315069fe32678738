/**
 * Defects of moves, in the models where they follow agent/stores/postgres/{move,logical}; of SQL itself, see
 * on-servers/. Hunted with seeds that all plan moves.
 */
import type { Mutant } from "./mutant.ts";

const POSTGRES = "simulations/models/postgres";
const SLOTS = `${POSTGRES}/logical-slots.ts`;
const COPY = `${POSTGRES}/move-copy.ts`;
const FOLLOWER = `${POSTGRES}/move-follower.ts`;
const VERIFIER = `${POSTGRES}/move-verifier.ts`;
const POSITION = "    const consistentAt = server.position;\n";

export const MOVE_MUTANTS: readonly Mutant[] = [
  {
    name: "stream-joined-too-late",
    says: "The snapshot is taken a moment before the position from which the stream goes on.",
    moves: true,
    edits: [
      {
        file: SLOTS,
        find: `${POSITION}    const rows = [...server.state.rows].flatMap`,
        replace: `    const seen = [...server.state.rows].map(([organization, writes]) => [organization, [...writes]] as const);
    await holder.clock.sleep(5, signal);
${POSITION}    const rows = seen.flatMap`,
      },
    ],
  },
  {
    name: "stream-joined-too-early",
    says: "The snapshot is taken a moment after the position from which the stream goes on.",
    moves: true,
    edits: [
      { file: SLOTS, find: POSITION, replace: `${POSITION}    await holder.clock.sleep(5, signal);\n` },
    ],
  },
  {
    name: "snapshots-are-mixed",
    says: "A copy whose snapshot is gone goes on with another one.",
    moves: true,
    edits: [
      { file: COPY, find: "  await removeCopied(session, signal);\n  return", replace: "  return" },
      {
        file: COPY,
        find: "const begun = own.state.copying.get(slot);\n  const held",
        replace: "const begun = own.state.copying.get(slot) && null;\n  const held",
      },
    ],
  },
  {
    name: "progress-apart-from-changes",
    says: "How far the stream was applied is committed after the changes, and not with them.",
    moves: true,
    edits: [
      {
        file: FOLLOWER,
        find: "if (changes.length > 0) await this.#session.write(changes, [origin], signal);",
        replace: `if (changes.length > 0) {
        await this.#session.write(changes, [], signal);
        await this.#session.lent.administer([origin], signal);
      }`,
      },
    ],
  },
  {
    name: "confirmed-before-durable",
    says: "The source is told that changes are here before they are committed.",
    moves: true,
    edits: [
      {
        file: FOLLOWER,
        find: "      if (changes.length > 0) await",
        replace: "      this.#confirm(end);\n      if (changes.length > 0) await",
      },
    ],
  },
  {
    name: "end-inside-a-transaction",
    says: "Parts of a large transaction are committed one by one, each with the position of its end.",
    moves: true,
    edits: [
      {
        file: FOLLOWER,
        find: "if (changes.length > 0) await this.#session.write(changes, [origin], signal);",
        replace: `for (let from = 0; from < changes.length; from += 8)
        await this.#session.write(changes.slice(from, from + 8), [origin], signal);`,
      },
    ],
  },
  {
    name: "changes-of-others-are-applied",
    says: "The stream's changes are applied, whosever they are.",
    moves: true,
    edits: [
      {
        file: FOLLOWER,
        find: "this.#isMeant(change) && this.#session.isTheirs(change.organization) ?",
        replace: "this.#isMeant(change) ?",
      },
    ],
  },
  {
    name: "rows-of-others-are-copied",
    says: "The base copy has every row of the snapshot.",
    moves: true,
    edits: [
      {
        file: COPY,
        find: "snapshot.rows.filter(({ organization }) => session.isTheirs(organization))",
        replace: "[...snapshot.rows]",
      },
    ],
  },
  {
    name: "membership-is-guessed",
    says: "A row that comes to the organization is passed over, as if it were somebody else's.",
    moves: true,
    edits: [
      {
        file: FOLLOWER,
        find: `if (change.type !== "came" && !(`,
        replace: `if (change.type === "came" || !(`,
      },
      { file: FOLLOWER, find: `if (change.type === "came")\n`, replace: `if (change.type !== "row")\n` },
    ],
  },
  {
    name: "touched-is-what-was-streamed",
    says: "What is compared again is what the stream brought, and not what writers noted.",
    moves: true,
    edits: [
      {
        file: VERIFIER,
        find: "const notes = source.state.touched.get(migrationId) ?? [];",
        replace: `const { lost } = source.logical;
  const missed = new Set(
    source.wal.flatMap(({ end, changes }) =>
      lost.has(end) ? changes.flatMap((change) => (change.type === "row" ? [change.write] : [])) : [],
    ),
  );
  const notes = (source.state.touched.get(migrationId) ?? []).filter(({ row }) => !missed.has(row.write));`,
      },
    ],
  },
  {
    name: "remembered-although-it-differs",
    says: "The comparison remembers how far it came although a row differs, and forgets that row's note.",
    moves: true,
    edits: [
      {
        file: VERIFIER,
        find: "if (this.#differences.size > 0 || snapshot === since) return",
        replace: "if (snapshot === since) return",
      },
      {
        file: VERIFIER,
        find: "this.#since !== null && this.#differences.size === 0",
        replace: "this.#since !== null",
      },
      {
        file: `${POSTGRES}/move-target.ts`,
        find: "...verifier.differences\n        .slice(0, 3)",
        replace: "...verifier.differences\n        .slice(0, 0)",
      },
    ],
  },
  {
    name: "an-abort-removes-residents",
    says: "What is removed from a target when its move is aborted is everything that is there.",
    moves: true,
    edits: [
      {
        file: COPY,
        find: "const rows = session.rows(own).slice(0, REMOVED_AT_ONCE);",
        replace: `const rows = [...own.state.rows]
      .flatMap(([organization, writes]) => writes.map((write) => ({ organization, write })))
      .slice(0, REMOVED_AT_ONCE);`,
      },
    ],
  },
  {
    name: "an-abort-removes-residents-files",
    says: "Repositories and objects of others on the target are removed with the copies of an aborted move.",
    moves: true,
    edits: [
      {
        file: "simulations/models/files/store.ts",
        find: "assignments === null || assignments.has(organization as never) ? [key] : [],",
        replace: `assignments === null || organization !== "" ? [key] : [],`,
      },
    ],
  },
  {
    name: "a-copy-replaces-residents-files",
    says: "A move's copy removes what the source does not have, as a split's does.",
    moves: true,
    edits: [
      {
        file: "simulations/models/files/replica.ts",
        find: "if (this.#following.isMeant(organization) && !feed.entries.has(key)) own.delete(key);",
        replace: `if (organization !== "" && !feed.entries.has(key)) own.delete(key);`,
      },
    ],
  },
];
