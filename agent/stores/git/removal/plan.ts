/** What a removal would take from this Pod's repositories, and what speaks against it. Changes nothing. */
import { lstat, readdir, realpath } from "node:fs/promises";
import { join, relative } from "node:path";
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Limiter } from "../../common/limiter.ts";
import { mayHaveDormant, type RemovalScope } from "../../common/removal/scope.ts";
import { organizationHash } from "../../file-fence/layout.ts";
import { borrowedFolders } from "../backend/folder/borrowed-objects.ts";
import { ignoring, scanRoot } from "../backend/folder/repository-path.ts";
import type { GitContext } from "../context.ts";
import { isMirrorOf } from "../replication/mirror.ts";

const CONCURRENCY = 4;

export interface DormantRepository {
  readonly path: string;
  readonly organizationId: OrganizationId;
}

export interface RemovalPlan {
  /** Whoever borrows objects comes before whoever lends them, so that what is left after a kill is whole. */
  readonly removable: readonly DormantRepository[];
  /** Nobody knows whose they are, so they stay. */
  readonly unknown: readonly string[];
  /** Links, and names that no repository can have; they stay too. In words. */
  readonly unusable: readonly string[];
  /** The database and the fence disagree about the owner, in words. */
  readonly disputed: readonly string[];
  /** Repositories that stay and borrow from one that would go, in words. */
  readonly references: readonly string[];
}

export async function planRemoval(
  context: GitContext,
  duty: Duty,
  scope: RemovalScope,
  signal: AbortSignal,
): Promise<RemovalPlan> {
  const { config, ownerLookup } = context;
  if (!mayHaveDormant(duty))
    return { removable: [], unknown: [], unusable: [], disputed: [], references: [] };
  const scan = await scanRoot(config.root, ignoring(config.ignore), signal);
  const owners = await ownerLookup.repositories();
  const removable: DormantRepository[] = [];
  const unknown: string[] = [];
  const disputed: string[] = [];
  for (const path of scan.repositories) {
    signal.throwIfAborted();
    // A Pod that organizations move to has others' repositories: only what this migration made here may go.
    const made = context.inventory.gitDirectory(path);
    if (duty.kind === "move" && duty.role === "target" && !(await isMirrorOf(made, duty.migrationId)))
      continue;
    const organizationId = owners.get(path) ?? (await ownerLookup.repository(path));
    if (organizationId === null) unknown.push(path);
    else if ((await scope.standingOf(organizationId)) === "dormant") {
      const known = await context.fence.ownerOf(path);
      if (known === null || known === organizationHash(organizationId))
        removable.push({ path, organizationId });
      else
        disputed.push(`${path} is ${organizationId}'s by the rules, and another owner's by this Pod's fence`);
    }
  }
  const { references, order } = await borrowing(context, removable, signal);
  return { removable: order, unknown, unusable: scan.problems, disputed, references };
}

/** Who borrows from whom: among those that go an order, between those that stay and those that go a fault. */
async function borrowing(
  { config, inventory }: GitContext,
  removable: readonly DormantRepository[],
  signal: AbortSignal,
): Promise<{ references: string[]; order: DormantRepository[] }> {
  if (removable.length === 0) return { references: [], order: [] };
  // Also those that are none of Cleave's business: they may borrow.
  const all = await scanRoot(config.root, ignoring([]), signal);
  const going = new Map(removable.map((one) => [one.path, one]));
  const root = await realpath(config.root);
  const lenderIn = (folder: string): string | null => {
    for (const from of [root, config.root]) {
      const path = /^(?:.*?[^/])\.git(?=\/|$)/.exec(relative(from, folder))?.[0];
      if (path !== undefined && going.has(path)) return path;
    }
    return null;
  };
  const references: string[] = [];
  const lendersOf = new Map<string, readonly string[]>();
  const borrowers = new Map<string, number>();
  const limiter = new Limiter(CONCURRENCY);
  await Promise.all(
    all.repositories.map((path) =>
      limiter.run(async () => {
        signal.throwIfAborted();
        const folders = await borrowedFolders(inventory.gitDirectory(path));
        const lenders = [...new Set(folders.map(lenderIn))].filter(
          (lender) => lender !== null && lender !== path,
        );
        for (const lender of lenders as string[])
          if (going.has(path)) borrowers.set(lender, (borrowers.get(lender) ?? 0) + 1);
          else references.push(`${path} stays and borrows objects from ${lender}, which would be removed`);
        if (going.has(path)) lendersOf.set(path, lenders as string[]);
      }),
    ),
  );
  const order: DormantRepository[] = [];
  const ready = removable.filter(({ path }) => !borrowers.has(path));
  for (let next = ready.pop(); next !== undefined; next = ready.pop()) {
    order.push(next);
    going.delete(next.path);
    for (const lender of lendersOf.get(next.path) ?? []) {
      const left = (borrowers.get(lender) ?? 0) - 1;
      borrowers.set(lender, left);
      const freed = going.get(lender);
      if (left === 0 && freed !== undefined) ready.push(freed);
    }
  }
  // Those that borrow from each other in a circle have no order.
  return { references: references.sort(), order: [...order, ...going.values()] };
}

/** Of everything below a folder. Links are not followed. */
export async function folderBytes(folder: string, signal: AbortSignal): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    signal.throwIfAborted();
    const found = await lstat(join(entry.parentPath, entry.name)).catch(() => null);
    if (found?.isFile()) bytes += found.size;
  }
  return bytes;
}
