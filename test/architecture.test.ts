/** The rules of ARCHITECTURE.md that a machine can check: import directions, ambient time and chance, file sizes. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { findCircles } from "./support/import-circles.ts";

const ROOT = resolve(import.meta.dirname, "..");
// In the work tree, committed or not; a deleted file may still be in the index.
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: ROOT,
  encoding: "utf8",
})
  .split("\n")
  .filter((file) => file !== "" && existsSync(join(ROOT, file)) && statSync(join(ROOT, file)).isFile());
const sources = files.filter((file) => /\.tsx?$/.test(file));

/** Modules that a file imports, as paths from the root; packages and built-ins as they are written. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(([, name = ""]) =>
    name.startsWith(".") ? relative(ROOT, resolve(ROOT, dirname(file), name)) : name,
  );
}

const top = (path: string) => path.split("/")[0] ?? "";
const isMain = (file: string) => /(^|\/)main\.ts$/.test(file);
const isTest = (file: string) => ["test", "examples"].includes(top(file));

/** Nothing of the module is there at run time. */
function onlyTypes(file: string, name: string): boolean {
  const text = readFileSync(join(ROOT, file), "utf8");
  return [...text.matchAll(/^import (type )?[^;]*?from "([^"]+)";/gm)].every(
    ([, type, from = ""]) =>
      relative(ROOT, resolve(ROOT, dirname(file), from)) !== name || type !== undefined,
  );
}

/** What each top-level folder may import of the others. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  protocol: ["protocol"],
  coordinator: ["protocol", "coordinator"],
  agent: ["protocol", "agent"],
  simulations: ["protocol", "coordinator", "agent", "simulations"],
  examples: ["protocol", "coordinator", "agent", "examples", "test"],
  test: ["protocol", "coordinator", "agent", "simulations", "examples", "test", "scripts"],
};

function violations(check: (file: string, imported: string) => boolean): string[] {
  return sources.flatMap((file) =>
    importsOf(file)
      .filter((name) => check(file, name))
      .map((name) => `${file} imports ${name}`),
  );
}

describe("imports", () => {
  it("point one way", () => {
    const local = (name: string) => Object.hasOwn(MAY_IMPORT, top(name)) && /\.tsx?$/.test(name);
    expect(
      violations(
        (file, name) =>
          local(name) && MAY_IMPORT[top(file)] !== undefined && !MAY_IMPORT[top(file)]?.includes(top(name)),
      ),
    ).toEqual([]);
  });

  it("go in no circle, not even of types", () => {
    const modules = files.filter((file) => /\.(tsx?|mjs)$/.test(file));
    expect(modules.length).toBeGreaterThan(700);
    const circles = findCircles(new Map(modules.map((file) => [file, importsOf(file)])));
    expect(circles.map((circle) => circle.join(" → "))).toEqual([]);
  });

  it.each<[string, Record<string, string[]>, string[]]>([
    ["itself", { a: ["a"] }, ["a → a"]],
    ["each other", { a: ["b"], b: ["a"] }, ["a → b → a"]],
    ["each other by a third", { a: ["b"], b: ["c"], c: ["a"] }, ["a → b → c → a"]],
    ["each other, behind others", { a: ["b", "d"], b: [], c: ["b", "d"], d: ["c"] }, ["d → c → d"]],
    ["the same file", { a: ["b", "c"], b: ["d"], c: ["d", "b"], d: ["node:fs"] }, []],
  ])("of files that import %s are told apart", (_, imports, circles) => {
    expect(findCircles(new Map(Object.entries(imports))).map((circle) => circle.join(" → "))).toEqual(
      circles,
    );
  });

  it("of a domain are protocol and itself, never adapters or packages that act", () => {
    const inDomain = (file: string) => /^(coordinator|agent)\/domain\//.test(file);
    const allowed = (name: string) =>
      /^protocol\/(?!adapters)/.test(name) || /^(coordinator|agent)\/domain\//.test(name) || name === "zod";
    expect(violations((file, name) => inDomain(file) && !allowed(name))).toEqual([]);
  });

  it("of the protocol are no adapters, and no process, file or network", () => {
    const pure = (file: string) => top(file) === "protocol" && !file.startsWith("protocol/adapters/");
    const acting =
      /^(node:(fs|net|http|https|child_process|worker_threads|dgram|tls|os)|nats|pg|fastify|undici)/;
    expect(
      violations((file, name) => pure(file) && (acting.test(name) || name.startsWith("protocol/adapters/"))),
    ).toEqual([]);
  });

  it("of adapters are made by main files, other adapters and tests alone", () => {
    // Files that survive a power cut are no port, and whoever keeps one needs them.
    const adapter = (name: string) => /(^|\/)adapters\/(?!durable-files\.ts)/.test(name);
    // Types and schemas of a configuration are no wiring.
    const configuration = (file: string, name: string) =>
      file.endsWith("config.ts") && name.endsWith("config.ts");
    expect(
      violations(
        (file, name) =>
          adapter(name) && !adapter(file) && !isMain(file) && !isTest(file) && !configuration(file, name),
      ),
    ).toEqual([]);
  });

  it("of the page in the browser are what is pure, and little else", () => {
    const PAGE = "coordinator/dashboard/page/";
    const pure = /^(protocol\/(?!adapters)|coordinator\/domain\/|coordinator\/dashboard\/page\/)/;
    const packages = ["preact", "preact/hooks", "@preact/signals"];
    const typesOnly = ["coordinator/api/ports.ts", "coordinator/api/problem.ts"];
    expect(
      violations(
        (file, name) =>
          file.startsWith(PAGE) &&
          !pure.test(name) &&
          !packages.includes(name) &&
          !(typesOnly.includes(name) && onlyTypes(file, name)),
      ),
    ).toEqual([]);
    // What the browser can do is in `state/` and `views/`; `model/` is tested without one.
    const ambient =
      /(?<![\w.#])(document|window|location|sessionStorage|localStorage|fetch|Date\.now|setTimeout)\b[.(]/;
    const models = sources.filter((file) => file.startsWith(`${PAGE}model/`));
    expect(models.length).toBeGreaterThan(4);
    for (const file of models) expect(readFileSync(join(ROOT, file), "utf8"), file).not.toMatch(ambient);
  });

  const FOLDERS = /^agent\/stores\/(git|objects|common)\/backend\/folder\//;
  const ACTING = /^(node:(fs|child_process)|write-file-atomic$)/;

  it.each(["git", "objects"])(
    "of the %s store name no file, no process and no folder outside of its backend",
    (store) => {
      const outside = sources.filter(
        (file) => file.startsWith(`agent/stores/${store}/`) && !/\/backend\/[^/]+\//.test(file),
      );
      expect(outside.length).toBeGreaterThan(15);
      const acting = (name: string) => ACTING.test(name) || FOLDERS.test(name);
      expect(violations((file, name) => outside.includes(file) && acting(name))).toEqual([]);
    },
  );

  it("of folders as backends are for the folders alone, and for who chooses them", () => {
    const may = (file: string) =>
      FOLDERS.test(file) ||
      file === "agent/stores/create-backends.ts" ||
      // Works on any repository that an operator names.
      file === "agent/commands/checksum/main.ts";
    const inAgent = (file: string) => top(file) === "agent";
    expect(violations((file, name) => inAgent(file) && FOLDERS.test(name) && !may(file))).toEqual([]);
  });

  it("of PostgreSQL's driver: connections are made where somebody listens to their loss", () => {
    const made = (file: string) => /\bnew pg\.(Client|Pool)\(/.test(readFileSync(join(ROOT, file), "utf8"));
    const inProduct = sources.filter((file) => ["agent", "coordinator", "protocol"].includes(top(file)));
    expect(inProduct.filter(made)).toEqual([
      "agent/commands/analyze/main.ts",
      "agent/stores/postgres/server/connection.ts",
    ]);
  });

  it("of ports are types only", () => {
    const ports = sources.filter(
      (file) => file.startsWith("protocol/ports/") || /^agent\/stores\/\w+\/backend\/backend\.ts$/.test(file),
    );
    expect(ports.length).toBeGreaterThan(5);
    for (const file of ports) {
      const text = readFileSync(join(ROOT, file), "utf8");
      expect(text, file).not.toMatch(/^import (?!type)/m);
      expect(text, file).not.toMatch(/^export (?!interface|type)/m);
    }
  });
});

describe("domain code", () => {
  const banned =
    /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|setTimeout|setInterval|setImmediate|process\.(env|hrtime)|crypto\.random\w*|randomUUID|randomBytes)\b/;
  const pure = sources.filter(
    (file) =>
      /^(coordinator|agent)\/domain\//.test(file) ||
      (top(file) === "protocol" && !file.startsWith("protocol/adapters/")),
  );
  // The loops run in the simulator too: their time comes from the clock port.
  const loops = [
    "coordinator/loop/coordinator.ts",
    "agent/loop/agent.ts",
    "agent/loop/durable-fold.ts",
    "agent/loop/store-worker.ts",
    "agent/loop/read-lease.ts",
    "agent/loop/reporter.ts",
    "agent/loop/preflight-runner.ts",
  ];

  it.each([...pure, ...loops])("%s uses no ambient time or chance", (file) => {
    expect(readFileSync(join(ROOT, file), "utf8")).not.toMatch(banned);
  });
});

// Nobody reads or edits it: `npm run docs` writes it, and it is as long as the API has words.
const GENERATED = ["coordinator/cli/api-types.ts"];

describe("files", () => {
  it.each(sources.filter((file) => !GENERATED.includes(file)))("%s has at most 400 lines", (file) => {
    expect(readFileSync(join(ROOT, file), "utf8").split("\n").length).toBeLessThanOrEqual(401);
  });

  it("name no registry host and no machine's path", () => {
    const hosts = new RegExp(
      ["registry\\.npmjs\\.org", "registry\\.yarnpkg\\.com", "deb\\.debian\\.org"].join("|"),
    );
    const found = files
      .filter((file) => !/\.(png|gz|gif|ico)$/.test(file) && file !== "test/architecture.test.ts")
      .filter((file) => hosts.test(readFileSync(join(ROOT, file), "utf8")));
    expect(found).toEqual([]);
  });
});
