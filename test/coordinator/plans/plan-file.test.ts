/** Plans as people write them: what is read, and what is said about what cannot be. */
import { expect, it } from "vitest";
import {
  assignmentsOfPlan,
  parseOrganizationList,
  parsePlan,
  withFiles,
  YAML_LIMIT_BYTES,
} from "../../../coordinator/plans/plan-file.ts";
import { CleaveError } from "../../../protocol/errors.ts";

function refusal(act: () => unknown): { code: string; message: string } {
  try {
    act();
  } catch (error) {
    if (error instanceof CleaveError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("nothing was refused");
}

const plan = (organizations: string) => `
migration: split-1
source: pod-0
assignments:
  - pod: pod-100
    organizations: ${organizations}
`;
const read = (organizations: string) => [...assignmentsOfPlan(parsePlan(plan(organizations))).keys()];

it("YAML and JSON of one plan are the same plan, defaults filled in", () => {
  const yaml = parsePlan(plan("[a, 12]"));
  const json = parsePlan(
    '{"migration":"split-1","source":"pod-0","assignments":[{"pod":"pod-100","organizations":["a",12]}]}',
  );
  expect(yaml).toEqual(json);
  expect(yaml.settings.cutover.approval).toBe("manual");
});

it("a plan that was written when settings had other names is the same plan", () => {
  const retaining = (name: string) => parsePlan(`${plan("[a]")}settings: {retention: {${name}: none}}`);
  expect(retaining("wayBack")).toEqual(retaining("reverseReplication"));
  expect(refusal(() => retaining("wayForth")).message).toContain("wayForth");
  expect(refusal(() => retaining("constructor")).message).toContain('"constructor"');
});

it("a plan that says a setting by its old and its new name is refused, in either order", () => {
  const both = (retention: string) => parsePlan(`${plan("[a]")}settings: {retention: ${retention}}`);
  for (const retention of [
    "{wayBack: none, reverseReplication: replicated}",
    "{reverseReplication: replicated, wayBack: none}",
  ])
    expect(refusal(() => both(retention)).message).toContain('"wayBack"');
});

it("organizations are what was written, not what YAML makes of it", () => {
  expect(read("[0017, 17, 1e3, 0x11, 1.0, 12345678901234567890, .5]")).toEqual([
    "0017",
    "17",
    "1e3",
    "0x11",
    "1.0",
    "12345678901234567890",
    ".5",
  ]);
});

it("JSON numbers that cannot be told apart are refused, not rounded", () => {
  const text = JSON.stringify({
    migration: "split-1",
    source: "pod-0",
    assignments: [{ pod: "pod-100", organizations: [1] }],
  });
  expect(refusal(() => parsePlan(text.replace("[1]", "[12345678901234567891]"))).code).toBe("PLAN_INVALID");
});

it.each([
  ["[a, null]", "assignments[0].organizations[1] (line 6)"],
  ["[true]", "assignments[0].organizations[0] (line 6)"],
  ['["a\\u0007b"]', "control characters"],
  ["[]", "assignments[0].organizations (line 6)"],
  [`["${"ö".repeat(101)}"]`, "at most 200 bytes"],
])("organizations %s are refused, naming %s", (organizations, named) => {
  const { code, message } = refusal(() => read(organizations));
  expect(code).toBe("PLAN_INVALID");
  expect(message).toContain(named);
});

it("names field and line of every problem, and of a choice only the branch that was meant", () => {
  const text = [
    "migration: Split_1",
    "source: pod-0",
    "assignments:",
    "  - pod: pod-100",
    "    file: a.txt",
    "  - pod: pod-101",
    "    organizatons: [1]",
    "settings:",
    "  cutover:",
    "    deadlineMs: 5",
    "    approval: never",
  ].join("\n");
  const lines = refusal(() => parsePlan(text)).message.split("\n");
  expect(lines).toEqual([
    expect.stringMatching(/^migration \(line 1\): a migration id is/),
    expect.stringMatching(/^assignments\[1\]/),
    expect.stringMatching(/organizatons/),
    expect.stringMatching(/^settings\.cutover\.approval \(line 11\): /),
    expect.stringMatching(/^settings\.cutover\.deadlineMs \(line 10\): /),
  ]);
});

it("names lines in JSON too", () => {
  const text = '{\n  "migration": "split-1",\n  "source": 7,\n  "assignments": []\n}';
  expect(refusal(() => parsePlan(text)).message).toMatch(/^source \(line 3\): .*\nassignments \(line 4\): /);
});

it("says where text is neither YAML nor JSON, and shows at most ten problems", () => {
  expect(refusal(() => parsePlan("migration: [a\nsource: b")).message).toMatch(/line \d+, column \d+/);
  expect(refusal(() => parsePlan('{"migration": "a",\n "source": }')).code).toBe("PLAN_INVALID");
  const many = refusal(() => read(`[${Array.from({ length: 50 }, () => "null").join(", ")}]`)).message;
  expect(many.split("\n")).toHaveLength(11);
  expect(many).toMatch(/and 40 more$/);
});

it.each(["", "just text", "[1, 2]", "null", "a: 1\n---\nb: 2"])("%j is no plan", (text) => {
  expect(refusal(() => parsePlan(text)).code).toBe("PLAN_INVALID");
});

it("aliases cannot multiply a small text into a large plan", () => {
  const text = `${plan("&a [x]")}  - pod: pod-101\n    organizations: *a\n`;
  expect(refusal(() => parsePlan(text)).code).toBe("PLAN_INVALID");
});

it("large YAML is refused at once, and a hundred thousand organizations as JSON are read", () => {
  const organizations = Array.from({ length: 100_000 }, (_, index) => `organization-${index}`);
  expect(refusal(() => read(`[${organizations.join(", ")}]`)).message).toContain(`${YAML_LIMIT_BYTES}`);
  const json = { migration: "m", source: "pod-0", assignments: [{ pod: "pod-100", organizations }] };
  expect(assignmentsOfPlan(parsePlan(JSON.stringify(json))).size).toBe(100_000);
});

it("an organization in two assignments is refused with its name and both Pods", () => {
  const twice = `${plan("[a, b]")}  - pod: pod-101\n    organizations: [b]\n`;
  expect(refusal(() => assignmentsOfPlan(parsePlan(twice)))).toEqual({
    code: "PLAN_ORGANIZATION_TWICE",
    message: "organization b is assigned to pod-100 and to pod-101",
  });
  expect(refusal(() => read("[7, '7']")).code).toBe("PLAN_ORGANIZATION_TWICE");
});

it("lists in files: comments, empty lines, line ends of any system, and the line of what is wrong", async () => {
  expect(parseOrganizationList("\uFEFF# ours\r\na\r\n\r\n  0017  \nb c\n", "list.txt")).toEqual([
    "a",
    "0017",
    "b c",
  ]);
  expect(refusal(() => parseOrganizationList("a\nb\u0000\n", "list.txt")).message).toMatch(
    /^list\.txt, line 2: /,
  );
  const withFile = parsePlan("migration: m\nsource: pod-0\nassignments: [{pod: pod-100, file: list.txt}]");
  const expanded = await withFiles(withFile, async (file) => `${file}\n`);
  expect([...assignmentsOfPlan(expanded).keys()]).toEqual(["list.txt"]);
  await expect(withFiles(withFile, async () => "# none\n")).rejects.toMatchObject({ code: "PLAN_INVALID" });
  expect(refusal(() => assignmentsOfPlan(withFile)).message).toContain("list.txt");
});
