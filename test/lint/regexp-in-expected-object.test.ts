/** An assertion about a text by a RegExp can fail, or it is refused: by the linter, or when it is run. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const ROOT = resolve(import.meta.dirname, "../..");
const RULE = "A RegExp in `toMatchObject` matches everything.";

/** How often the linter, with the project's configuration, names the rule. */
function found(text: string): number {
  const folder = mkdtempSync(join(tmpdir(), "cleave-lint-"));
  try {
    writeFileSync(join(folder, "sample.test.ts"), text);
    const { stderr } = spawnSync(
      join(ROOT, "node_modules/.bin/biome"),
      ["lint", "--only=plugin", "--vcs-enabled=false", `--config-path=${ROOT}`, folder],
      { encoding: "utf8" },
    );
    expect(stderr).toContain("Checked 1 file");
    return stderr.split(RULE).length - 1;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe("the linter", () => {
  it("refuses a RegExp that a text is compared with", () => {
    const refused = [
      "expect(error).toMatchObject({ message: /a/ });",
      "expect(error).not.toMatchObject({ message: /a/u });",
      "await expect(call({ b: 1 })).rejects.toMatchObject({\n  code: 'B',\n  message: /a/,\n});",
      "expect(all).toMatchObject([{ deep: { message: /a/ } }]);",
      "expect(all).toMatchObject([1, /a/]);",
      "expect(all).toMatchObject({ some: ['a', /b/] });",
      "expect(error).toMatchObject({ message: new RegExp('a', 'u') });",
      "expect(error).toMatchObject({ ...other, message: /a/ as unknown as string });",
      "expect(error).toMatchObject({ one: expect.stringMatching(/a/), other: /b/ });",
    ];
    expect(found(refused.join("\n"))).toBe(refused.length);
  });

  it("allows it where it is matched", () => {
    const allowed = [
      "expect(error).toMatchObject({ message: expect.stringMatching(/a/) });",
      "expect(error).toMatchObject({\n  deep: [expect.stringMatching(new RegExp(name, 'u'))],\n});",
      "expect(text.replace(/a/, '')).toMatchObject({ length: 1 });",
      "expect(text).toMatch(/a/);",
      "await expect(call()).rejects.toThrow(/a/);",
    ];
    expect(found(allowed.join("\n"))).toBe(0);
  });
});

describe("an assertion", () => {
  const PATTERN = /a/;
  const REFUSAL = "a RegExp equals no text; use expect.stringMatching(…)";

  it.each<[string, () => unknown]>([
    ["toMatchObject", () => expect({ message: "a" }).toMatchObject({ message: PATTERN })],
    ["not.toMatchObject", () => expect({ message: "a" }).not.toMatchObject({ message: PATTERN })],
    ["toMatchObject, in depth", () => expect({ deep: ["b"] }).toMatchObject({ deep: [PATTERN] })],
    ["rejects.toMatchObject", () => expect(fails("b")).rejects.toMatchObject({ message: PATTERN })],
    ["not.toEqual", () => expect({ message: "a" }).not.toEqual({ message: PATTERN })],
    ["not.toContainEqual", () => expect(["a"]).not.toContainEqual(PATTERN)],
    ["not.toHaveProperty", () => expect({ message: "a" }).not.toHaveProperty("message", PATTERN)],
    [
      "not.objectContaining",
      () => expect({ message: "a" }).toEqual(expect.not.objectContaining({ message: PATTERN })),
    ],
  ])("with %s is refused", async (_, assertion) => {
    await expect((async () => assertion())()).rejects.toThrow(REFUSAL);
  });

  it("with stringMatching fails when it does not match", () => {
    const assertion = () =>
      expect({ message: "b" }).toMatchObject({ message: expect.stringMatching(PATTERN) });
    expect(assertion).toThrow("expected { message: 'b' } to match object");
  });

  it("about a RegExp compares it", () => {
    const other = /b/u;
    expect({ pattern: /a/u }).toEqual({ pattern: /a/u });
    expect({ pattern: /a/u }).not.toMatchObject({ pattern: other });
  });
});

async function fails(message: string): Promise<never> {
  throw new Error(message);
}
