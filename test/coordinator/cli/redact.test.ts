import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { redact, redactText } from "../../../coordinator/cli/redact.ts";

describe("what leaves the machine", () => {
  it.each([
    ["nats://cleave:hunter2@nats-1:4222", "nats://[redacted]@nats-1:4222"],
    [
      "https://a-token@host/path?access_token=abc&x=1",
      "https://[redacted]@host/path?access_token=[redacted]&x=1",
    ],
    ["host=db password=hunter2 user=x", "host=db password=[redacted] user=x"],
    ["host=db password='hunter 2\\' x' user=x", "host=db password=[redacted] user=x"],
    ["Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"],
    ["waiting for pod-101: WAL 4.2 MB behind", "waiting for pod-101: WAL 4.2 MB behind"],
  ])("%s", (text, said) => expect(redactText(text)).toBe(said));

  it("names what is secret by its name, and says where files are", () => {
    const config = {
      token: "t",
      tokenFile: "/etc/token",
      tokens: [{ name: "ana", role: "admin", tokenFile: "/etc/ana" }],
      nats: { servers: "nats://h", password: "p" },
      peers: { "pod-1": { postgres: { password: 12345, port: 5432 } } },
    };
    expect(redact(config)).toEqual({
      token: "[redacted]",
      tokenFile: "/etc/token",
      tokens: [{ name: "ana", role: "admin", tokenFile: "/etc/ana" }],
      nats: { servers: "nats://h", password: "[redacted]" },
      peers: { "pod-1": { postgres: { password: "[redacted]", port: 5432 } } },
    });
  });

  it("never has a password, whatever it is made of", () => {
    const secret = fc.stringMatching(/^[A-Za-z0-9_!$%^*+.~-]{8,30}$/);
    fc.assert(
      fc.property(secret, (password) => {
        const value = {
          password,
          deep: [{ peerToken: password }, `postgres://u:${password}@h/db`, `x password=${password}`],
        };
        expect(JSON.stringify(redact(value))).not.toContain(password);
        expect(JSON.stringify(redact({ reason: `it is ${password}` }, [password]))).not.toContain(password);
      }),
    );
  });
});
