import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  expectations,
  Ledger,
  type LedgerEntry,
  ledgerKey,
  readLedger,
} from "../../../../examples/quickstart/traffic/ledger.ts";

const entry = (revision: number, state: string | null, outcome: LedgerEntry["outcome"]): LedgerEntry => ({
  kind: "object",
  organization: "1",
  key: "a",
  revision,
  state,
  outcome,
  sentAt: revision,
  endedAt: revision,
  podId: null,
});

test("what was written is read back, and the counts are of outcomes", () => {
  const folder = mkdtempSync(join(tmpdir(), "cleave-ledger-"));
  try {
    const ledger = new Ledger(join(folder, "ledger.jsonl"));
    const entries = [entry(1, "x", "acknowledged"), entry(2, null, "ambiguous")];
    for (const item of entries) ledger.add(item);
    ledger.close();
    expect(readLedger(join(folder, "ledger.jsonl"))).toEqual(entries);
    expect([ledger.acknowledged, ledger.ambiguous]).toEqual([1, 1]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the newest acknowledged state is expected, whatever the order of answers", () => {
  const expected = expectations([entry(2, "y", "acknowledged"), entry(1, "x", "acknowledged")]);
  expect(expected.get(ledgerKey(entry(1, null, "acknowledged")))).toMatchObject({
    acknowledged: { revision: 2, state: "y" },
    ambiguous: null,
  });
});

test("a write without an answer is possible and not expected", () => {
  const expected = expectations([entry(1, "x", "acknowledged"), entry(2, null, "ambiguous")]);
  expect([...expected.values()]).toMatchObject([
    { acknowledged: { state: "x" }, ambiguous: { revision: 2, state: null } },
  ]);
});
