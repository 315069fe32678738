/** Repositories or objects of one Pod on its disk, with the file fence that every writer passes. */
import type { Assignments } from "../../../protocol/assignments.ts";
import type { SharePhase } from "../../../protocol/cluster.ts";
import type { PodId } from "../../../protocol/ids.ts";
import { hash32 } from "../../world/random.ts";
import type { Refusal } from "../postgres/transaction.ts";

export interface Item {
  readonly organization: string;
  readonly writes: readonly string[];
  /** Of the content; `partial` for a copy that broke off. */
  readonly digest: string;
}

/** As a copy that went wrong has it. */
export const withoutItsNewest = (item: Item): Item => ({
  ...item,
  writes: item.writes.slice(0, -1),
  digest: `${item.digest}?`,
});

export interface FileWriter {
  readonly key: string;
  readonly organization: string;
  status: "open" | "ended";
  /** Its write is with the disk already: whoever ends it has to wait for that. */
  readonly late: boolean;
}

export interface FileShares {
  readonly source: PodId;
  readonly phases: Readonly<Record<string, SharePhase>>;
}

export interface FileCopy {
  /** It became more than a copy. */
  activated: boolean;
  /** Of a move: what these own and nothing else. Null: everything, on a disk that was empty. */
  readonly assignments: Assignments | null;
}

export class FileServer {
  readonly kind: "git" | "objects";
  readonly podId: PodId;
  readonly defaultPodId: PodId;
  readonly items = new Map<string, Item>();
  /** By organization, so that a reader finds them at once. */
  readonly keys = new Map<string, Set<string>>();
  readonly shares = new Map<string, FileShares>();
  readonly routes = new Map<string, Assignments>();
  /** Of organizations that a migration, over by now, brought elsewhere than to the default Pod. */
  readonly base = new Map<string, PodId>();
  readonly inflight = new Set<FileWriter>();
  readonly dirty = new Set<string>();
  /** Copies that migrations began here, by migration. */
  readonly copies = new Map<string, FileCopy>();
  onDirty: () => void = () => undefined;
  /** Writes take so much longer, and nobody can hurry them. */
  lateMs = 0;
  /** One item that nobody can read or hash for a while. */
  unreadable: string | null = null;
  /** Which quarter of the disk is rotten: every copy made there differs from what was read. */
  rotten: number | null = null;
  onUnreadable: () => void = () => undefined;
  onCommitted: (organization: string, write: string) => void = () => undefined;

  constructor(kind: "git" | "objects", podId: PodId, defaultPodId: PodId) {
    this.kind = kind;
    this.podId = podId;
    this.defaultPodId = defaultPodId;
  }

  /** The intent is on disk before the share is looked at. */
  begin(organization: string, write: string): FileWriter {
    const key = this.kind === "git" ? `${organization}.git` : `${organization}/${write}`;
    const writer: FileWriter = { key, organization, status: "open", late: this.lateMs > 0 };
    this.inflight.add(writer);
    return writer;
  }

  check(writer: FileWriter): Refusal | null {
    if (writer.status !== "open") return { outcome: "down" };
    // A ref update in its prepared phase holds the lock.
    if (this.kind === "git")
      for (const other of this.inflight)
        if (other !== writer && other.key === writer.key) return { outcome: "serialization" };
    for (const [migrationId, assignments] of this.#newestFirst()) {
      const target = assignments.get(writer.organization as never);
      if (target === undefined) continue;
      const shares = this.shares.get(migrationId);
      const phase = shares?.phases[target];
      if (shares === undefined || phase === undefined) return { outcome: "fenced" };
      if (phase === "source" && shares.source === this.podId) return null;
      if (phase === "opened" && target === this.podId) return null;
      if ((phase === "source" || phase === "fenced") && shares.source !== this.podId)
        return { outcome: "wrongPod", podId: shares.source };
      if ((phase === "transferred" || phase === "opened") && target !== this.podId)
        return { outcome: "wrongPod", podId: target };
      return { outcome: "fenced" };
    }
    const base = this.base.get(writer.organization) ?? this.defaultPodId;
    return this.podId === base ? null : { outcome: "wrongPod", podId: base };
  }

  /** The Pod's own word: another Pod is authoritative, and no other migration has staged the organization. */
  isDormant(organization: string, ofMigration: string): boolean {
    for (const [migrationId, assignments] of this.#newestFirst()) {
      const target = assignments.get(organization as never);
      if (target === undefined) continue;
      const shares = this.shares.get(migrationId);
      const phase = shares?.phases[target];
      if (migrationId !== ofMigration || shares === undefined) return false;
      if (phase === "opened") return target !== this.podId;
      return phase === "source" && shares.source !== this.podId;
    }
    return (this.base.get(organization) ?? this.defaultPodId) !== this.podId;
  }

  /** A rollback's routes lie over those of the migration that it rolls back. */
  #newestFirst(): [migrationId: string, assignments: Assignments][] {
    return [...this.routes].reverse();
  }

  /**
   * The migration is over: organizations of opened shares have their target as base Pod, or the source where they went
   * back to. `of`: the migration over whose routes those of this one lay.
   */
  settle(migrationId: string, of: string | null, wentBack: ReadonlySet<string>): void {
    const over = of === null ? undefined : this.routes.get(of);
    const left = new Map(over);
    const shares = this.shares.get(migrationId);
    for (const [organization, target] of this.routes.get(migrationId) ?? []) {
      if (shares?.phases[target] !== "opened") continue;
      this.base.set(organization, wentBack.has(organization) ? shares.source : target);
      left.delete(organization);
    }
    if (of !== null && over !== undefined) this.routes.set(of, left);
    this.routes.delete(migrationId);
    this.shares.delete(migrationId);
    this.copies.delete(migrationId);
  }

  /** Written and synced; false when the writer was ended first. */
  write(writer: FileWriter, write: string): boolean {
    if (writer.status !== "open") return false;
    const before = this.items.get(writer.key);
    const writes = [...(before?.writes ?? []), write];
    this.put(writer.key, {
      organization: writer.organization,
      writes,
      digest: hash32(write, hash32(before?.digest ?? "")).toString(16),
    });
    this.onCommitted(writer.organization, write);
    return true;
  }

  end(writer: FileWriter): void {
    writer.status = "ended";
    if (!this.inflight.delete(writer)) return;
    this.dirty.add(writer.key);
    this.onDirty();
  }

  /** Every writer's process is gone; what they left counts as changed. */
  crash(): void {
    for (const writer of [...this.inflight]) this.end(writer);
  }

  put(key: string, item: Item): void {
    this.items.set(key, item);
    const keys = this.keys.get(item.organization);
    if (keys) keys.add(key);
    else this.keys.set(item.organization, new Set([key]));
  }

  delete(key: string): void {
    const item = this.items.get(key);
    if (!item) return;
    this.items.delete(key);
    this.keys.get(item.organization)?.delete(key);
  }

  keyAt(place: number, isMeant: (organization: string) => boolean = () => true): string | null {
    const keys = [...this.items].flatMap(([key, { organization }]) => (isMeant(organization) ? [key] : []));
    return keys[Math.floor(place * keys.length)] ?? null;
  }

  makeUnreadable(place: number): void {
    this.unreadable = this.keyAt(place);
    this.onUnreadable();
  }

  makeReadable(): void {
    this.unreadable = null;
    this.onUnreadable();
  }

  isRotten(key: string): boolean {
    return this.rotten !== null && hash32(key) % 4 === this.rotten;
  }

  /** One item of a copy that is not fenced yet loses its newest write, as a copy that went wrong. */
  corruptOne(place: number): void {
    for (const [migrationId, { activated, assignments }] of this.copies) {
      const phases = Object.values(this.shares.get(migrationId)?.phases ?? {});
      if (activated || !phases.every((phase) => phase === "source")) continue;
      const key = this.keyAt(place, (organization) => assignments?.has(organization as never) ?? true);
      const item = key === null ? undefined : this.items.get(key);
      if (key !== null && item !== undefined) this.items.set(key, withoutItsNewest(item));
    }
  }

  writesOf(organization: string): string[] {
    const found: string[] = [];
    for (const key of this.keys.get(organization) ?? []) found.push(...(this.items.get(key)?.writes ?? []));
    return found;
  }

  /** Of everything that the assigned organizations have, in any order. */
  digestOf(assignments: Assignments): string {
    let sum = 0;
    let count = 0;
    for (const organization of assignments.keys())
      for (const key of this.keys.get(organization) ?? []) {
        sum = (sum + hash32(`${key} ${this.items.get(key)?.digest}`)) >>> 0;
        count += 1;
      }
    return `${count}/${sum.toString(16)}`;
  }
}
