/** A root is released while it is still being marked: a migration was aborted in its first moment. */
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { FolderRoot } from "../../../../../agent/stores/common/backend/folder/folder-root.ts";
import { KnownRoot } from "../../../../../agent/stores/common/root/known-root.ts";
import { silentLogger } from "../../../../../protocol/adapters/logger.ts";
import { systemClock } from "../../../../../protocol/adapters/system-clock.ts";

let folder: string;
let place: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cleave-root-"));
  place = join(folder, "objects");
  mkdirSync(place);
  mkdirSync(join(folder, "state"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it("leaves neither a mark nor a memory of it", async () => {
  const marking = Promise.withResolvers<void>();
  const marked = Promise.withResolvers<void>();
  class Slow extends FolderRoot {
    override async mark(id: string): Promise<void> {
      await super.mark(id);
      marking.resolve();
      await marked.promise;
    }
  }
  const root = new KnownRoot({
    root: new Slow(place),
    place,
    stateDirectory: join(folder, "state"),
    clock: systemClock,
    log: silentLogger,
    onChange: () => undefined,
  });
  const established = root.establish();
  await marking.promise;
  const released = root.release();
  marked.resolve();
  await Promise.all([established, released]);
  expect(await root.id()).toBeNull();
  expect(existsSync(join(place, ".cleave-root"))).toBe(false);
  root.close();
});
