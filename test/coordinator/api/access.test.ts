/** Who may use the API: the token is asked for on every way to a route, however its path is written. */
import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type ApiFixture, startApi } from "../../support/coordinator/api.ts";

const TOKEN = "a-token-of-this-test-alone";
let api: ApiFixture;

beforeAll(async () => {
  api = await startApi({ tokens: [{ name: null, role: "admin", token: TOKEN }] });
});
afterAll(() => api.stop());

/** The request line as it is: clients normalise paths, attackers do not. */
function raw(requestLine: string, headers = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(api.port, "127.0.0.1", () =>
      socket.write(`${requestLine} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n${headers}\r\n`),
    );
    socket.on("data", (bytes) => {
      answer += bytes;
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
  });
}

it.each([
  "GET /v1/status",
  "HEAD /v1/status",
  "GET /%761/status",
  "GET /v%31/status",
  "GET //v1/status",
  "GET /x/../v1/status",
  "GET /v1/status?token=1",
  "GET /v1/events",
  "GET /v1/status/stream",
  "GET http://127.0.0.1/v1/status",
  "POST /%761/migrations/split-1/abort",
])("%s without a token tells nothing and does nothing", async (requestLine) => {
  const before = api.log.records.length;
  const answer = await raw(requestLine);
  expect(answer).toMatch(/^HTTP\/1\.1 40[14] /);
  expect(answer).not.toContain("pod-0");
  expect(api.log.records.length).toBe(before);
});

it.each([
  "Bearer wrong",
  `bearer${TOKEN}`,
  `Bearer ${TOKEN}x`,
  `Bearer ${TOKEN.slice(1)}`,
  "Basic x",
  "Bearer ",
])("authorization %j is refused with the code and the way to ask", async (authorization) => {
  const answer = await fetch(`${api.url}/v1/status`, { headers: { authorization } });
  expect(answer.status).toBe(401);
  expect(answer.headers.get("www-authenticate")).toBe("Bearer");
  expect(await answer.json()).toMatchObject({ code: "UNAUTHORIZED", nextStep: expect.any(String) });
});

it("answers with the token", async () => {
  const answer = await raw("GET /v1/status", `authorization: Bearer ${TOKEN}\r\n`);
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  expect(answer).toContain("pod-0");
});

it("health and the description are open, and name no Pod", async () => {
  for (const path of ["/health", "/ready", "/docs/json"]) {
    const answer = await fetch(`${api.url}${path}`);
    expect(answer.status).toBe(200);
    expect(await answer.text()).not.toContain("pod-0");
  }
});
