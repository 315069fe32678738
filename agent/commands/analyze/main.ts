/** `cleave analyze --database URL --root TABLE`: whose rows are in which table, from the catalog and the rows. */
import { readFileSync, writeFileSync } from "node:fs";
import { Command } from "commander";
import pg from "pg";
import { parse } from "yaml";
import { runCommand } from "../../../protocol/adapters/run-process.ts";
import { CleaveError } from "../../../protocol/errors.ts";
import { Ownership } from "../../../protocol/ownership.ts";
import { analyze } from "../../stores/postgres/inventory/analyze.ts";
import { renderDrawing } from "../../stores/postgres/inventory/drawing.ts";
import {
  isBlocked,
  renderProblems,
  renderRules,
  renderTable,
} from "../../stores/postgres/inventory/render.ts";
import { toPostgresError } from "../../stores/postgres/server/connection.ts";

interface Flags {
  readonly database: string;
  readonly root: string;
  readonly rules?: string;
  readonly out?: string;
  readonly svg?: string;
  readonly json: boolean;
  readonly sample: string;
  readonly table?: string;
}

const BLOCKED = 3;

const program = new Command("cleave analyze")
  .description(
    "Explains for every table which organization owns a row, and what keeps an organization from being moved.",
  )
  .requiredOption(
    "--database <url>",
    "postgresql://user@host:port/database (the password may come from PGPASSWORD)",
  )
  .requiredOption("--root <table>", "the table of organizations, as schema.table or table")
  .option("--rules <file>", "an ownership.yaml whose rules are taken as they are")
  .option("--out <file>", "write the rules found as ownership.yaml, to edit and commit")
  .option("--svg <file>", "write a drawing of the ownership graph")
  .option("--table <name>", "this table alone, with the SQL that selects an organization's rows")
  .option("--sample <rows>", "rows looked at for each question", "5000")
  .option("--json", "print JSON", false)
  .addHelpText(
    "after",
    `
Reads only, in transactions of at most five seconds each. Names are taken as hints, never as proof.

Example:
  cleave analyze --database postgresql://postgres@localhost/gitlab --root organizations --out ownership.yaml

Exit codes:
  0 every table is explained and can be moved   1 error   2 wrong usage   ${BLOCKED} some table is unexplained or blocked`,
  )
  .exitOverride();

function readRules(file: string): Ownership {
  const result = Ownership.safeParse(parse(readFileSync(file, "utf8")));
  if (result.success) return result.data;
  const issues = result.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new CleaveError("OWNERSHIP_RULE_INVALID", `${file}: ${issues.slice(0, 5).join("; ")}`);
}

async function run(flags: Flags): Promise<number> {
  const sampledRows = Number(flags.sample);
  if (!Number.isInteger(sampledRows) || sampledRows < 1)
    throw new CleaveError("CONFIG_INVALID", `--sample ${flags.sample}: write a number of rows`);
  const rules = flags.rules === undefined ? {} : { rules: readRules(flags.rules) };
  const client = new pg.Client({
    connectionString: flags.database,
    application_name: "cleave-analyze",
    connectionTimeoutMillis: 5_000,
  });
  client.on("error", () => undefined);
  const showing = process.stderr.isTTY;
  const onProgress = (text: string) => {
    if (showing) process.stderr.write(`\r\u001b[K${text.slice(0, 100)}`);
  };
  try {
    await client.connect().catch((error: unknown) => {
      throw toPostgresError(error, "the database");
    });
    const analysis = await analyze(client, { root: flags.root, sampledRows, onProgress, ...rules });
    if (showing) process.stderr.write("\r\u001b[K");
    if (flags.out !== undefined) writeFileSync(flags.out, renderRules(analysis));
    if (flags.svg !== undefined) writeFileSync(flags.svg, renderDrawing(analysis));
    const named = (name: string) => name === flags.table || name === `public.${flags.table}`;
    const tables =
      flags.table === undefined ? analysis.tables : analysis.tables.filter(({ table }) => named(table));
    if (flags.table !== undefined && tables.length === 0)
      throw new CleaveError("OWNERSHIP_RULE_INVALID", `there is no table ${flags.table}`);
    const shown = { ...analysis, tables };
    if (flags.json) console.log(JSON.stringify(shown, null, 1));
    else {
      console.log(renderTable(shown));
      if (flags.table !== undefined)
        for (const { sql } of tables) console.log(`\n${sql ?? "no organization owns its rows"}`);
      for (const line of renderProblems(shown)) console.log(line);
      const blocked = tables.filter(isBlocked).length;
      const how = (certainty: string) =>
        `${tables.filter((one) => one.certainty === certainty).length} ${certainty}`;
      console.log(
        `\n${tables.length} tables: ${["rules file", "declared", "measured", "partial", "unexplained"].map(how).join(", ")}; ${blocked} blocked`,
      );
      if (flags.out !== undefined) console.log(`the rules are in ${flags.out}`);
    }
    return tables.some(isBlocked) ? BLOCKED : 0;
  } finally {
    await client.end().catch(() => undefined);
  }
}

if (import.meta.main) await runCommand(() => run(program.parse().opts<Flags>()));
