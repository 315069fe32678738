/** The API over TLS on a real socket, with certificates of the test's own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { ApiClient } from "../../../coordinator/cli/client.ts";
import { type Certificates, makeCertificates } from "../../support/certificates.ts";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";
import { cleave, endCleave } from "../../support/coordinator/cleave.ts";

let folder: string;
let server: Certificates;
let other: Certificates;
let api: ApiFixture;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "cleave-tls-"));
  server = await makeCertificates(folder);
  other = await makeCertificates(folder, "other");
  api = await startApi({ tls: server });
});
afterEach(endCleave);
afterAll(async () => {
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

it("a client that knows the issuer is answered, streams included", async () => {
  const client = new ApiClient(api.url, undefined, server.ca);
  expect((await client.status()).pods).toHaveLength(3);
  for await (const status of client.stream<{ pods: unknown[] }>("/v1/status/stream")) {
    expect(status.pods).toHaveLength(3);
    break;
  }
});

it("one that does not know it, or knows another, sends nothing and is told what to do", async () => {
  for (const ca of [undefined, other.ca])
    await expect(new ApiClient(api.url, "a-token-of-this-test", ca).status()).rejects.toMatchObject({
      code: "COORDINATOR_UNREACHABLE",
      message: expect.stringMatching(/certificate/),
      nextStep: expect.stringContaining("CLEAVE_CA"),
    });
});

it("the command line trusts by option and by environment", async () => {
  const { url } = api;
  expect((await cleave(["status", "--ca", server.caFile], { url })).stdout).toContain("pod-0");
  expect((await cleave(["status"], { url, env: { CLEAVE_CA: server.caFile } })).code).toBe(0);
  expect((await cleave(["status"], { url })).code).toBe(4);
  const missing = await cleave(["status", "--ca", join(folder, "none")], { url });
  expect([missing.code, missing.stderr]).toEqual([1, expect.stringContaining("CONFIG_INVALID")]);
});

it("nothing is said in the clear, and nothing in old versions of TLS", async () => {
  await expect(fetch(`http://127.0.0.1:${api.port}/health`)).rejects.toThrow();
  const handshake = (maxVersion: "TLSv1.1" | "TLSv1.2") =>
    new Promise<string>((resolve) => {
      const socket = connect(
        {
          port: api.port,
          host: "127.0.0.1",
          ca: server.ca,
          minVersion: "TLSv1",
          maxVersion,
          ciphers: "DEFAULT@SECLEVEL=0",
        },
        () => {
          resolve(socket.getProtocol() ?? "none");
          socket.destroy();
        },
      );
      socket.on("error", (error) => resolve(`refused: ${error.message}`));
    });
  expect(await handshake("TLSv1.2")).toBe("TLSv1.2");
  expect(await handshake("TLSv1.1")).toMatch(/^refused: .*protocol version/);
});
