import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { GuardConfig } from "../../../agent/guard/config.ts";
import {
  compileRules,
  isWrite,
  organizationOf,
  originalFromHeaders,
  questionOf,
} from "../../../agent/guard/organization-from-request.ts";

const rules = compileRules(GuardConfig.parse({}));
const trusting = compileRules(GuardConfig.parse({ trustOrganizationHeader: true }));
const refused = expect.objectContaining({ code: "REQUEST_INVALID" });

describe("the organization of a path", () => {
  it.each([
    ["/organizations/42", "42"],
    ["/organizations/42/projects/7?x=/organizations/9", "42"],
    ["/organizations/a%20b/x", "a b"],
    ["/organizations/group%2Fsub/x", "group/sub"],
    ["/organizations/%E2%82%AC", "€"],
    ["//organizations///42//x", "42"],
    ["/organizations/42#/organizations/9", "42"],
    ["/organizations/__proto__/x", "__proto__"],
    ["/other/organizations/42", null],
    ["/organizations/", null],
    ["/", null],
    ["*", null],
    ["/?path=/organizations/42", null],
  ])("%s → %s", (path, organization) => {
    expect(organizationOf(path, rules)).toBe(organization);
  });

  it.each([
    ["dot segments", "/organizations/1/../2/x"],
    ["encoded dot segments", "/organizations/1/%2e%2E/2/x"],
    ["half-encoded dot segments", "/organizations/1/.%2e/2"],
    ["a single dot", "/./organizations/1"],
    ["a hidden name", "/%6Frganizations/1/x"],
    ["a hidden slash", "/organizations%2F1/x"],
    ["a backslash", "/organizations\\1"],
    ["a control character", "/organizations/1\u0000"],
    ["an encoded control character in the id", "/organizations/1%00/x"],
    ["broken encoding", "/organizations/%E2%82/x"],
    ["a lone percent", "/organizations/100%/x"],
    ["an id that is too long", `/organizations/${"x".repeat(201)}`],
    ["a path that is too long", `/organizations/1/${"x".repeat(9_000)}`],
    ["no path at all", "organizations/1"],
    ["an absolute URL", "http://example.org/organizations/1"],
  ])("refuses %s", (_what, path) => {
    expect(() => organizationOf(path, rules)).toThrow(refused);
  });

  it("finds any organization back that was put into a path by encodeURIComponent", () => {
    const id = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 40 })
      .filter(
        (s) => Buffer.byteLength(s) <= 200 && !/[\u0000-\u001f\u007f]/.test(s) && s !== "." && s !== "..",
      );
    fc.assert(
      fc.property(id, (organization) => {
        expect(organizationOf(`/organizations/${encodeURIComponent(organization)}/x`, rules)).toBe(
          organization,
        );
      }),
    );
  });

  it("answers or refuses whatever comes, and never hangs", () => {
    const hostile = fc.string({
      unit: fc.constantFrom(..."/%.2eE5cf\\?#organizations1\u0000€"),
      maxLength: 200,
    });
    fc.assert(
      fc.property(hostile, (path) => {
        try {
          organizationOf(`/${path}`, rules);
        } catch (error) {
          expect(error).toEqual(refused);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("whether a request writes", () => {
  it.each([
    ["GET", "/organizations/1", false],
    ["HEAD", "/organizations/1", false],
    ["OPTIONS", "/organizations/1", false],
    ["POST", "/organizations/1", true],
    ["PATCH", "/organizations/1", true],
    ["DELETE", "/organizations/1", true],
    ["PROPFIND", "/organizations/1", true],
    ["get", "/organizations/1", true],
    ["TRACE", "/organizations/1", true],
    [null, "/organizations/1", true],
    ["POST", "/organizations/1/a.git/git-upload-pack", false],
    ["POST", "/organizations/1/issues?/git-upload-pack", true],
    ["POST", "/organizations/1/a.git/git-receive-pack", true],
    ["GET", "/organizations/1/a.git/info/refs?service=git-upload-pack", false],
    ["GET", "/organizations/1/a.git/info/refs?service=git-receive-pack", true],
    ["GET", "/organizations/1/a.git/info/refs?a=b&service=git-receive-pack&c", true],
  ])("%s %s → %s", (method, uri, write) => {
    expect(isWrite({ method, uri }, rules)).toBe(write);
  });

  it("takes further rules from the configuration, and a write wins", () => {
    const own = compileRules(
      GuardConfig.parse({
        reads: ["^POST [^?]*/(search|preview)$"],
        writes: ["/preview$", "^GET [^?]*/unsubscribe"],
      }),
    );
    expect(isWrite({ method: "POST", uri: "/organizations/1/search" }, own)).toBe(false);
    expect(isWrite({ method: "POST", uri: "/organizations/1/preview" }, own)).toBe(true);
    expect(isWrite({ method: "GET", uri: "/organizations/1/unsubscribe?x" }, own)).toBe(true);
  });

  it("refuses a method that is none", () => {
    expect(() => isWrite({ method: "GET, POST", uri: "/" }, rules)).toThrow(refused);
  });
});

describe("what a proxy says", () => {
  it("is understood in the words of nginx and in those of Traefik and Caddy", () => {
    const expected = { method: "POST", uri: "/organizations/1" };
    expect(
      originalFromHeaders({ "x-original-method": "POST", "x-original-uri": "/organizations/1" }),
    ).toEqual(expected);
    expect(
      originalFromHeaders({ "x-forwarded-method": "POST", "x-forwarded-uri": "/organizations/1" }),
    ).toEqual(expected);
  });

  it("is refused when a client's own header contradicts the proxy's", () => {
    const proxy = { "x-forwarded-method": "POST", "x-forwarded-uri": "/organizations/1" };
    expect(() => originalFromHeaders({ ...proxy, "x-original-uri": "/organizations/2" })).toThrow(refused);
    expect(() => originalFromHeaders({ ...proxy, "x-original-method": "GET" })).toThrow(refused);
    expect(originalFromHeaders({ ...proxy, "x-original-method": "POST" }).method).toBe("POST");
  });

  it("may name the organization only where the configuration says so", () => {
    const headers = { "x-cleave-organization": "7" };
    const none = { method: null, uri: null };
    expect(questionOf(none, headers, trusting)).toEqual({ organizationId: "7", write: true });
    expect(() => questionOf(none, headers, rules)).toThrow(refused);
    const get = { method: "GET", uri: "/organizations/8" };
    expect(questionOf(get, headers, rules)).toEqual({ organizationId: "8", write: false });
    expect(() => questionOf(get, headers, trusting)).toThrow(refused);
    expect(questionOf({ method: "GET", uri: "/x" }, headers, trusting).organizationId).toBe("7");
  });

  it("is refused when it says nothing", () => {
    expect(() => questionOf({ method: "GET", uri: null }, {}, rules)).toThrow(refused);
  });
});

describe("the guard's configuration", () => {
  it.each([
    ["without the group", "^/organizations/([^/]+)"],
    ["that does not compile", "^/(?<organization>[^/]+"],
    ["with repetition within repetition", "^/(?<organization>(?:a+)+)$"],
    ["that is too long", `^/(?<organization>${"x".repeat(500)})`],
  ])("refuses a path rule %s", (_what, source) => {
    expect(GuardConfig.safeParse({ paths: [source] }).success).toBe(false);
  });
});
