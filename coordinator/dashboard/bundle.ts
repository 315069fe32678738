/** The dashboard's files, ready to be sent: bundled from source when first asked for, or by `npm run build` beforehand. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";

export interface PageFile {
  readonly content: string;
  readonly type: string;
  /** Changes with the content: what a browser has already need not be sent again. */
  readonly etag: string;
}
export type PageFiles = ReadonlyMap<string, PageFile>;

export const SCRIPT = "app.js";
const STATIC = {
  "index.html": "text/html; charset=utf-8",
  "app.css": "text/css; charset=utf-8",
  "icon.svg": "image/svg+xml",
} as const;
export const STATIC_FILES = Object.keys(STATIC);

/**
 * @param folder with the page's source, or with what `npm run build` made of it
 * @throws Error when the source cannot be bundled: a package or the bundler itself is missing.
 */
export async function loadPage(folder: string): Promise<PageFiles> {
  const source = join(folder, "main.tsx");
  const script = existsSync(source) ? bundle(source) : readFile(join(folder, SCRIPT), "utf8");
  const files = await Promise.all([
    script.then((content) => [SCRIPT, file(content, "text/javascript; charset=utf-8")] as const),
    ...Object.entries(STATIC).map(
      async ([name, type]) => [name, file(await readFile(join(folder, name), "utf8"), type)] as const,
    ),
  ]);
  return new Map(files);
}

/** One script of a few hundred kilobytes; it takes some hundred milliseconds of a process of its own. */
export async function bundle(entry: string): Promise<string> {
  // Not loaded before it is needed: a coordinator whose page nobody opens has nothing to do with it.
  const esbuild = await import("esbuild");
  try {
    const { outputFiles } = await esbuild.build({
      entryPoints: [entry],
      bundle: true,
      write: false,
      minify: true,
      format: "esm",
      platform: "browser",
      target: "es2022",
      legalComments: "eof",
      logLevel: "silent",
      define: { "process.env.NODE_ENV": '"production"' },
    });
    return outputFiles.map((output) => output.text).join("");
  } finally {
    // Its process would otherwise stay for as long as this one.
    await esbuild.stop();
  }
}

function file(content: string, type: string): PageFile {
  return {
    content,
    type,
    etag: `"${createHash("sha256").update(content).digest("base64url").slice(0, 22)}"`,
  };
}
