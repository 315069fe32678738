/** Uploads and artifacts of each organization, and shared LFS content: plain files. */
import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { inParallel } from "./parallel.ts";
import { seeded } from "./random.ts";

const SHARED = 0.1;

export async function generateObjects(
  objectRoot: string,
  organizations: number,
  count: number,
  seed: number,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  const random = seeded(seed);
  const files = Array.from({ length: count }, (_, n) => {
    // Mostly small, some a hundred times larger; drawn here so that the order of writing does not matter.
    const bytes = Math.floor(200 + 4_000 * random() + (random() < 0.02 ? 200_000 : 0));
    const content = Buffer.alloc(bytes, `object ${seed} ${n} `);
    const organization = 1 + Math.floor(organizations * random() ** 2);
    if (random() < SHARED) {
      const oid = createHash("sha256").update(content).digest("hex");
      return { key: join("lfs", oid.slice(0, 2), oid.slice(2, 4), oid), content };
    }
    const kind = random() < 0.5 ? "uploads" : "artifacts";
    return { key: join(kind, String(organization), String(n % 40), `file-${n}.bin`), content };
  });
  let done = 0;
  await inParallel(files, 16, async ({ key, content }) => {
    const path = join(objectRoot, key);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    done += 1;
    if (done % 100 === 0 || done === files.length) onProgress(done, files.length);
  });
}
