/** The client's types come from the description, and say what the code says. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import type { z } from "zod";
import type { ClusterStatus, MigrationStatus, StoredRecord } from "../../../coordinator/api/ports.ts";
import type { components, paths } from "../../../coordinator/cli/api-types.ts";
import { apiTypes } from "../../../scripts/api-types.ts";
import { API_FILE, API_TYPES_FILE } from "../../../scripts/docs.ts";

/** As JSON has it: ids are strings and numbers, nothing is read-only, and nothing is undefined. */
type Plain<T> = T extends z.core.$brand
  ? T extends string
    ? string
    : number
  : T extends readonly (infer U)[]
    ? Plain<U>[]
    : T extends object
      ? {
          -readonly [K in keyof T as K extends string ? (K extends z.core.$brand ? string : K) : K]: Plain<
            Exclude<T[K], undefined>
          >;
        }
      : T;
type Same<A, B> = [A, B] extends [B, A] ? true : never;
type Schemas = components["schemas"];

const same: [
  Same<Schemas["ClusterStatus"], Plain<ClusterStatus>>,
  Same<Schemas["MigrationStatus"], Plain<MigrationStatus>>,
  Same<Schemas["LogRecord"], Plain<StoredRecord>>,
] = [true, true, true];

it("they are those that `npm run docs` makes of docs/openapi.json, and agree with the code when this compiles", () => {
  expect(readFileSync(API_TYPES_FILE, "utf8")).toBe(apiTypes(JSON.parse(readFileSync(API_FILE, "utf8"))));
  expect(same).toHaveLength(3);
});

it("a command has the body that its route wants, or none", () => {
  type Body<P extends keyof paths> = paths[P] extends { post: { requestBody: { content: infer C } } }
    ? C
    : null;
  const abort: Body<"/v1/migrations/{id}/abort"> = { "application/json": { reason: "r" } };
  // @ts-expect-error: it has no reason.
  const without: Body<"/v1/migrations/{id}/abort"> = { "application/json": {} };
  const start: Body<"/v1/migrations/{id}/start"> = null;
  expect([abort, without, start]).toHaveLength(3);
});

it("what it does not know it refuses, rather than to write something that fits everything", () => {
  const schemas = { Strange: { type: "tuple" } };
  expect(() => apiTypes({ paths: {}, components: { schemas } })).toThrow("has to learn it");
});
