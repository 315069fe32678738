import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parse, stringify } from "yaml";
import { loadAgentConfig, parseAgentConfig } from "../../agent/config.ts";

const example = readFileSync(new URL("../../deploy/agent.example.yaml", import.meta.url), "utf8");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "cleave-test-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The example, changed; `undefined` removes a field. */
function file(change: Record<string, unknown>): string {
  const path = join(folder, "agent.yaml");
  writeFileSync(path, stringify({ ...(parse(example) as object), ...change }));
  return path;
}

const TOKEN = "0123456789abcdef";

describe("an agent's configuration", () => {
  it("is what the example shows", () => {
    const config = parseAgentConfig(example, "example");
    expect(config.podId).toBe("pod-0");
    expect(Object.keys(config.peers)).toEqual(["pod-100", "pod-101"]);
    expect(config.guard.maxHeld).toBe(2_000);
  });

  it("takes secrets from files and paths relative to its own folder", async () => {
    writeFileSync(join(folder, "token"), `${TOKEN}\n`);
    const config = await loadAgentConfig(
      file({ peerTokenFile: "token", stateDirectory: "state", git: { root: "../git" } }),
    );
    expect(config.peerToken).toBe(TOKEN);
    expect(config.stateDirectory).toBe(join(folder, "state"));
    expect(config.git.root).toBe(join(folder, "..", "git"));
    expect(config.objects.root).toBe("/srv/objects");
    expect(config).not.toHaveProperty("peerTokenFile");
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    ["an unknown field", { podid: "pod-0" }, /podid/],
    ["a missing one", { podId: undefined }, /podId/],
    ["a Pod id that is none", { podId: "../etc" }, /podId: a Pod id is/],
    ["a nested fault", { listen: { guardPort: 0, peerPort: 1 } }, /listen\.guardPort/],
    ["the same port twice", { listen: { guardPort: 9, peerPort: 9 } }, /listen\.peerPort/],
    ["no token", { peerTokenFile: undefined }, /peerToken/],
    ["two tokens", { peerToken: TOKEN }, /peerToken/],
    ["a short token", { peerTokenFile: undefined, peerToken: "short" }, /peerToken: .*16/],
    ["a token file that is not there", { peerTokenFile: "nowhere" }, /peerTokenFile: .*ENOENT/],
    ["a peer that is no Pod", { peers: { "Pod 1": {} } }, /peers/],
    [
      "a peer's address that is none",
      { peers: { "pod-1": { agentUrl: "ftp://x" } } },
      /peers\.pod-1\.agentUrl/,
    ],
    ["a path rule that could hang", { guard: { paths: ["^/(?<organization>(a+)+)$"] } }, /guard\.paths\.0/],
  ])("names the field: %s", async (_what, change, message) => {
    await expect(loadAgentConfig(file(change))).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringMatching(message),
    });
  });

  it("says so when it is not there, or not YAML", async () => {
    await expect(loadAgentConfig(join(folder, "none"))).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    writeFileSync(join(folder, "bad"), "a: [");
    await expect(loadAgentConfig(join(folder, "bad"))).rejects.toMatchObject({
      code: "CONFIG_INVALID",
      message: expect.stringContaining("not YAML"),
    });
  });
});
