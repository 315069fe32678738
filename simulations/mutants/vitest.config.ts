/** Runs tests of real servers with one mutant in the sources: see on-servers/. Its name is in the environment. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vitest/config";
import { applyEdit, ROOT, UNHARMED } from "./mutant.ts";
import { STORE_HUNTS } from "./on-servers/all.ts";

const name = process.env["CLEAVE_MUTANT"] ?? UNHARMED;
const mutant = STORE_HUNTS.find((one) => one.name === name);
if (mutant === undefined && name !== UNHARMED) throw new Error(`there is no store mutant ${name}`);

export default defineConfig({
  root: ROOT,
  plugins: [
    {
      name: "mutant",
      enforce: "pre",
      load(id) {
        const edits = mutant?.edits.filter(({ file }) => join(ROOT, file) === id) ?? [];
        if (edits.length === 0) return null;
        return edits.reduce((source, edit) => applyEdit(source, edit, name), readFileSync(id, "utf8"));
      },
    },
  ],
  test: { include: ["test/agent/**/*.test.ts"], hookTimeout: 120_000, retry: 0 },
});
