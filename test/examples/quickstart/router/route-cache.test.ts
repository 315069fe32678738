import { expect, test } from "vitest";
import { lifetimeOf, RouteCache } from "../../../../examples/quickstart/router/route-cache.ts";
import { organizationOf } from "../../../../examples/quickstart/router/router.ts";

test("a route is known for its lifetime, until it is learnt anew or forgotten", () => {
  let now = 0;
  const cache = new RouteCache(() => now);
  cache.learn("1", "pod-0", 100);
  now = 99;
  expect(cache.get("1")).toBe("pod-0");
  now = 100;
  expect(cache.get("1")).toBeNull();
  cache.learn("1", "pod-100", 100);
  expect(cache.get("1")).toBe("pod-100");
  cache.forget("1");
  expect(cache.get("1")).toBeNull();
});

test("the lifetime comes from Cache-Control", () => {
  expect(lifetimeOf("private, max-age=3", 9)).toBe(3_000);
  expect(lifetimeOf("no-store", 9)).toBe(0);
  expect(lifetimeOf("no-cache, max-age=3", 9)).toBe(0);
  expect(lifetimeOf(null, 9)).toBe(9);
  expect(lifetimeOf("public", 9)).toBe(9);
});

test("the organization is the path's second part, decoded", () => {
  expect(organizationOf("/organizations/42/issues?x=1")).toBe("42");
  expect(organizationOf("/organizations/a%2Fb")).toBe("a/b");
  expect(organizationOf("/organizations/%E0%A4%A")).toBeNull();
  expect(organizationOf("/organizations/")).toBeNull();
  expect(organizationOf("/other/42")).toBeNull();
});
