/** Bytes of repositories and objects, by organization. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { OwnerLookup } from "../../stores/common/inventory/owner-lookup.ts";
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
export async function measureRepositories(root: string, owners: OwnerLookup): Promise<FilesOf> {
  const sums = new Sums();
  const notes: string[] = [];
  for (const [path, organization] of await owners.repositories()) {
    try {
      sums.add(organization, await bytesBelow(join(root, path)));
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

/** As the disk counts them: blocks, not lengths. Links are not followed. */
async function bytesBelow(folder: string): Promise<number> {
  let bytes = 0;
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    for (const entry of await readdir(next, { withFileTypes: true })) {
      const path = join(next, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else {
        // A file that git has just replaced counts with the next one.
        const found = await lstat(path).catch(() => null);
        bytes += (found?.blocks ?? 0) * 512;
      }
    }
  }
  return bytes;
}
