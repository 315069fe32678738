/** What stands in `deploy/`, as far as it can be read: it names things that exist. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { AgentFile } from "../../agent/config.ts";
import { CoordinatorFile } from "../../coordinator/config.ts";
import { METRICS, type MetricSpec } from "../../protocol/telemetry/catalogue.ts";

const ROOT = join(import.meta.dirname, "../..");
const read = (path: string) => readFileSync(join(ROOT, path), "utf8");

/** Metrics that an expression names; of a histogram, its series. */
function unknownMetrics(expression: string): string[] {
  const exposed = new Set(
    (Object.entries(METRICS) as [string, MetricSpec][]).flatMap(([name, { kind }]) =>
      kind === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
  return [...expression.matchAll(/cleave_\w+/g)].map(([name]) => name).filter((name) => !exposed.has(name));
}

it("alerts use metrics that exist, and each has its runbook", () => {
  const { groups } = parse(read("deploy/prometheus/alerts.yaml")) as {
    groups: { rules: { alert: string; expr: string; annotations: { runbook: string } }[] }[];
  };
  const rules = groups.flatMap((group) => group.rules);
  expect(rules.length).toBeGreaterThan(10);
  for (const { alert, expr, annotations } of rules) {
    expect(expr, alert).toContain("cleave_");
    expect(unknownMetrics(expr), alert).toEqual([]);
    const [page = "", anchor = ""] = annotations.runbook.split("#");
    const anchors = [...read(page).matchAll(/^## (.+)$/gm)].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replace(/[^\w -]/g, "")
        .replaceAll(" ", "-"),
    );
    expect(anchors, alert).toContain(anchor);
  }
});

it("the dashboard uses metrics that exist", () => {
  const { panels } = JSON.parse(read("deploy/grafana/cleave.json")) as {
    panels: { title: string; targets: { expr: string }[] }[];
  };
  expect(panels.length).toBeGreaterThan(10);
  for (const { title, targets } of panels)
    for (const { expr } of targets) expect([title, unknownMetrics(expr)]).toEqual([title, []]);
});

it("the image copies what is there, and runs as nobody special", () => {
  const text = read("deploy/container/Containerfile");
  const copied = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, from = ""]) =>
    from.split(" "),
  );
  expect(copied).toContain("agent");
  for (const path of copied) expect(existsSync(join(ROOT, path)), path).toBe(true);
  expect(text.match(/^USER (.+)$/m)?.[1]).toBe("postgres");
  expect(text).not.toMatch(/^FROM .*:latest|^ADD |curl|wget/m);
  expect(
    Object.keys((parse(read("deploy/container/compose.yaml")) as { services: object }).services),
  ).toEqual(["nats", "coordinator", "agent", "app"]);
});

it("the manifests' configurations are valid, and their probes ask where something answers", () => {
  const documents = ["coordinator", "pod"].flatMap((name) =>
    parseAllDocuments(read(`deploy/kubernetes/${name}.yaml`)).map((one) => {
      expect(one.errors).toEqual([]);
      return one.toJS() as Record<string, never>;
    }),
  );
  const data = Object.assign({}, ...documents.map((one) => one["data"] ?? {})) as Record<string, string>;
  const agent = AgentFile.parse(parse(data["agent.yaml"] ?? ""));
  const coordinator = CoordinatorFile.parse(parse(data["coordinator.yaml"] ?? ""));
  const text = read("deploy/kubernetes/pod.yaml");
  expect(text).toContain(`path: /health, port: ${agent.listen.metricsPort}`);
  expect(text).toContain("shareProcessNamespace: true");
  expect(read("deploy/kubernetes/coordinator.yaml")).toContain(
    `path: /ready, port: ${coordinator.listen.port}`,
  );
});

const UNITS = ["agent", "coordinator"];
const analyze = (...args: string[]) => spawnSync("systemd-analyze", args, { encoding: "utf8" });

it("an agent's unit ends the agent alone, and lets it see who writes", () => {
  const unit = read("deploy/cleave-agent.service");
  expect(unit).toMatch(/^KillMode=process$/m);
  expect(unit).not.toMatch(/^(ProtectProc|PrivatePIDs|PrivateTmp)=/m);
});

it.skipIf(analyze("--version").status !== 0)("systemd understands the units, and finds little open", () => {
  const folder = mkdtempSync(join(tmpdir(), "cleave-units-"));
  try {
    for (const name of UNITS) {
      const file = join(folder, `cleave-${name}.service`);
      // It looks whether the program is there.
      writeFileSync(file, read(`deploy/cleave-${name}.service`).replace("/usr/bin/cleave", process.execPath));
      const verified = analyze("verify", file);
      expect([verified.status, verified.stderr], name).toEqual([0, ""]);
      const { stdout } = analyze("security", "--offline=yes", "--no-pager", file);
      const exposure = Number(/exposure level for .*: ([\d.]+)/.exec(stdout)?.[1]);
      expect(exposure, stdout).toBeLessThan(4);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
