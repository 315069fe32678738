/** Bytes of repositories and objects, by organization. */
import type { OwnerLookup } from "../../stores/common/inventory/owner-lookup.ts";
import type { RepositoryContent } from "../../stores/git/backend/backend.ts";
import type { ListedObject } from "../../stores/objects/backend/backend.ts";

export interface FileSizes {
  readonly items: number;
  readonly bytes: number;
}

export interface FilesOf {
  readonly organizations: ReadonlyMap<string, FileSizes>;
  readonly totalBytes: number;
  readonly notes: readonly string[];
}

class Sums {
  readonly organizations = new Map<string, FileSizes>();
  totalBytes = 0;

  add(organization: string | null, bytes: number): void {
    this.totalBytes += bytes;
    if (organization === null) return;
    const known = this.organizations.get(organization) ?? { items: 0, bytes: 0 };
    this.organizations.set(organization, { items: known.items + 1, bytes: known.bytes + bytes });
  }
}

/** Repositories that the rules know; what is missing on the disk is a note. */
export async function measureRepositories(
  backend: Pick<RepositoryContent, "bytes">,
  owners: OwnerLookup,
): Promise<FilesOf> {
  const sums = new Sums();
  const notes: string[] = [];
  const { signal } = new AbortController();
  for (const [path, organization] of await owners.repositories()) {
    try {
      sums.add(organization, await backend.bytes(path, signal));
    } catch (error) {
      if (notes.length < 20) notes.push(`repository ${path}: ${(error as Error).message}`);
    }
  }
  return { organizations: sums.organizations, totalBytes: sums.totalBytes, notes };
}

export async function measureObjects(
  list: AsyncIterable<ListedObject>,
  owners: OwnerLookup,
): Promise<FilesOf> {
  const sums = new Sums();
  let unowned = 0;
  for await (const { key, bytes } of list) {
    const owner = owners.object(key);
    if (owner === null) unowned += 1;
    sums.add(owner?.kind === "organization" ? owner.organizationId : null, bytes);
  }
  const notes = unowned === 0 ? [] : [`${unowned} objects have no owner by the rules`];
  return { organizations: sums.organizations, totalBytes: sums.totalBytes, notes };
}
