/** What a removal would take from this Pod's repositories, and what speaks against it. Changes nothing. */
import type { OrganizationId } from "../../../../protocol/ids.ts";
import type { Duty } from "../../../../protocol/ports/store.ts";
import { Limiter } from "../../common/limiter.ts";
import { mayHaveDormant, type RemovalScope } from "../../common/removal/scope.ts";
import { organizationHash } from "../../file-fence/layout.ts";
import type { RepositoryBackend } from "../backend/backend.ts";
import type { GitContext } from "../context.ts";

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
  const { backend, ownerLookup } = context;
  if (!mayHaveDormant(duty))
    return { removable: [], unknown: [], unusable: [], disputed: [], references: [] };
  const listing = await backend.list(signal);
  // A disk may go while it is listed, and then less was listed than there is.
  await context.root.require();
  const owners = await ownerLookup.repositories();
  const removable: DormantRepository[] = [];
  const unknown: string[] = [];
  const disputed: string[] = [];
  for (const path of listing.repositories) {
    signal.throwIfAborted();
    // A Pod that organizations move to has others' repositories: only what this migration made here may go.
    const isSelective = duty.kind === "move" && duty.role === "target";
    if (isSelective && !(await backend.isMadeFor(path, duty.migrationId))) continue;
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
  const { references, order } = await borrowing(backend, removable, signal);
  return { removable: order, unknown, unusable: listing.problems, disputed, references };
}

/** Who borrows from whom: among those that go an order, between those that stay and those that go a fault. */
async function borrowing(
  backend: RepositoryBackend,
  removable: readonly DormantRepository[],
  signal: AbortSignal,
): Promise<{ references: string[]; order: DormantRepository[] }> {
  if (removable.length === 0) return { references: [], order: [] };
  // Also those that are none of Cleave's business: they may borrow.
  const all = await backend.list(signal, { everything: true });
  const going = new Map(removable.map((one) => [one.path, one]));
  const references: string[] = [];
  const lendersOf = new Map<string, readonly string[]>();
  const borrowers = new Map<string, number>();
  const limiter = new Limiter(CONCURRENCY);
  await Promise.all(
    all.repositories.map((path) =>
      limiter.run(async () => {
        signal.throwIfAborted();
        const lenders = (await backend.lendersOf(path)).filter((lender) => going.has(lender));
        for (const lender of lenders)
          if (going.has(path)) borrowers.set(lender, (borrowers.get(lender) ?? 0) + 1);
          else references.push(`${path} stays and borrows objects from ${lender}, which would be removed`);
        if (going.has(path)) lendersOf.set(path, lenders);
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
