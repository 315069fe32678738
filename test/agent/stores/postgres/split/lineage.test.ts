import { expect, it } from "vitest";
import { explainFailedBackup } from "../../../../../agent/stores/postgres/split/base-backup.ts";
import {
  lagBytes,
  lineageProblem,
  parseHistory,
  type ServerPosition,
} from "../../../../../agent/stores/postgres/split/lineage.ts";
import {
  connectionString,
  quoteSetting,
  withoutBlock,
} from "../../../../../agent/stores/postgres/split/standby-files.ts";
import type { Lsn } from "../../../../../protocol/ids.ts";

const own: ServerPosition = {
  systemIdentifier: "7",
  timeline: 2,
  history: ["1 0/3000000"],
  inRecovery: true,
  clusterName: "pod-100",
  lsn: "0/4000000" as Lsn,
  streaming: true,
  paused: false,
};
const source: ServerPosition = { ...own, inRecovery: false, clusterName: "pod-0" };

it.each([
  ["the same history", {}, null],
  ["a source that is further", { lsn: "1/0" as Lsn }, null],
  ["another system identifier", { systemIdentifier: "8" }, /system identifier/],
  ["another timeline", { timeline: 3 }, /timeline 2, the source on 3/],
  ["the same timeline with another switch point", { history: ["1 0/3000100"] }, /another history/],
  ["a history that cannot be read", { history: null }, /missing on the source/],
  ["a source that is behind its standby", { lsn: "0/3FFFFFF" as Lsn }, /has not written/],
])("compares lineages: %s", (_, change: Partial<ServerPosition>, problem) => {
  const found = lineageProblem(own, { ...source, ...change });
  if (problem === null) expect(found).toBeNull();
  else expect(found).toMatch(problem);
});

it("reads a history file without its prose", () => {
  expect(
    parseHistory("1\t0/3000000\tno recovery target specified\n\n# comment\n2\t0/5000000\tbefore 2000"),
  ).toEqual(["1 0/3000000", "2 0/5000000"]);
});

it("counts no page header as lag", () => {
  expect(lagBytes("0/5000000" as Lsn, "0/5000028" as Lsn)).toBe(0);
  expect(lagBytes("0/5002000" as Lsn, "0/5002018" as Lsn)).toBe(0);
  expect(lagBytes("0/5000000" as Lsn, "0/5000029" as Lsn)).toBe(41);
  expect(lagBytes("0/5000000" as Lsn, "1/5000000" as Lsn)).toBe(2 ** 32);
});

it("quotes for configuration files and connection strings", () => {
  expect(quoteSetting("a'b\\c")).toBe("'a''b\\\\c'");
  expect(quoteSetting("a\nb = 'c'\t")).toBe("'a\\012b = ''c''\\011'");
  expect(connectionString({ user: "o'brien \\" })).toBe("user='o\\'brien \\\\'");
});

it("removes its own settings from a file, and no others", () => {
  const begin = "# Begin of Cleave's settings; replaced as a whole.";
  const text = ["work_mem = '1MB'", begin, "port = '1'", "# End of Cleave's settings.", "jit = 'off'"].join(
    "\n",
  );
  expect(withoutBlock(text)).toBe("work_mem = '1MB'\njit = 'off'");
});

it.each([
  ["pg_basebackup: error: could not write to file: No space left on device", "DISK_FULL"],
  ['FATAL:  password authentication failed for user "x"', "POSTGRES_AUTHENTICATION"],
  ["FATAL:  no pg_hba.conf entry for replication connection", "POSTGRES_AUTHENTICATION"],
  ["pg_basebackup: error: could not create directory: Permission denied", "FILE_PERMISSION"],
  ["pg_basebackup: error: connection to server failed: Connection refused", "POSTGRES_UNREACHABLE"],
])("explains %s", (output, code) => {
  expect(explainFailedBackup(output).code).toBe(code);
});
