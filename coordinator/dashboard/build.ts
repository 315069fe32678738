/** Part of `npm run build`: what the published coordinator serves is bundled once, and needs no bundler there. */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { bundle, SCRIPT, STATIC_FILES } from "./bundle.ts";

const source = resolve("coordinator/dashboard/page");
const target = join(import.meta.dirname, "page");
if (source === target)
  throw new Error("run `npm run build`: this file runs from the build, in the project's root");
await mkdir(target, { recursive: true });
await writeFile(join(target, SCRIPT), await bundle(join(source, "main.tsx")));
for (const name of STATIC_FILES) await copyFile(join(source, name), join(target, name));
