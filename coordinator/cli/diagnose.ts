/** `diagnose`: one file with what somebody elsewhere needs to find out what went on, and nothing that opens a door. */
import { createWriteStream } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { basename } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { Command } from "commander";
import tar from "tar-stream";
import { parseAllDocuments, stringify } from "yaml";
import { CleaveError, toCleaveError } from "../../protocol/errors.ts";
import { counted } from "../../protocol/wording.ts";
import type { StoredRecord } from "../api/ports.ts";
import { type CoordinatorConfig, loadCoordinatorConfig } from "../config.ts";
import { type Context, examples } from "./context.ts";
import { allRecords } from "./records.ts";
import { redact } from "./redact.ts";

interface Flags {
  readonly output?: string;
  readonly config?: string;
  readonly agentConfig: readonly string[];
}

const ABOUT = `A bundle of \`cleave diagnose\`.

log.jsonl       every record of the log, one a line: who decided what, when
status.json     the coordinator's status: what each agent last reported of each migration and store
versions.json   of Cleave, Node and the agents; what could not be read, and why
config/         configuration files as they were given, without comments and secrets

Passwords, tokens and credentials in addresses are left out. Names of Pods, migrations and operators, reasons that
operators gave, and names of tables, repositories and organizations in messages are in it.

To see the state after each record, and that it follows from the log alone:
  npm run simulate -- --replay-log BUNDLE
`;

type ReadLog = (config: CoordinatorConfig["nats"]) => Promise<readonly StoredRecord[]>;

export function registerDiagnoseCommand(program: Command, context: Context, readLog: ReadLog): void {
  const several = (file: string, files: readonly string[]) => [...files, file];
  program
    .command("diagnose")
    .option("--output <file>", "the bundle to write (default: cleave-diagnose-TIME.tar.gz)")
    .option("--config <file>", "the coordinator's configuration: included, and the log is read from its NATS")
    .option("--agent-config <file>", "an agent's configuration, included; may be repeated", several, [])
    .description("write a bundle: log, reports, versions, configuration without secrets; simulate replays it")
    .addHelpText(
      "after",
      examples(
        "diagnose",
        "diagnose --config /etc/cleave/coordinator.yaml --output bundle.tar.gz   # also without a coordinator",
      ),
    )
    .action(async (flags: Flags) => {
      const { files, records, problems } = await collect(context, flags, readLog);
      const time = new Date()
        .toISOString()
        .replace(/\.\d+Z$/, "Z")
        .replaceAll(":", "");
      const output = flags.output ?? `cleave-diagnose-${time}.tar.gz`;
      await writeBundle(output, files);
      const missing = problems.map((problem) => `\nmissing: ${problem}`).join("");
      context.print(
        { output, records, files: Object.keys(files), problems },
        `written to ${output}: ${counted(records, "record")} of the log, ${Object.keys(files).join(", ")}${missing}`,
      );
    });
}

interface Collected {
  readonly files: Readonly<Record<string, string>>;
  readonly records: number;
  /** What is not in it, and why. */
  readonly problems: readonly string[];
}

/** @throws CleaveError when neither the coordinator nor, with `--config`, its NATS has the log. */
async function collect(
  context: Context,
  { config, agentConfig }: Flags,
  readLog: ReadLog,
): Promise<Collected> {
  const client = context.client();
  const problems: string[] = [];
  const attempt = async <T>(what: string, get: () => Promise<T>): Promise<T | null> => {
    try {
      return await get();
    } catch (error) {
      problems.push(`${what}: ${toCleaveError(error).code}: ${toCleaveError(error).message}`);
      return null;
    }
  };
  const status = await attempt("status.json", () => client.status());
  let log: readonly StoredRecord[];
  if (config === undefined) log = await allRecords(client);
  else {
    const { nats } = await loadCoordinatorConfig(config);
    log = (await attempt("the log from NATS", () => readLog(nats))) ?? (await allRecords(client));
  }
  const configs: Record<string, string> = {};
  const given = [...(config === undefined ? [] : [config]), ...agentConfig];
  for (const [index, file] of given.entries()) {
    const text = await attempt(file, () => readFile(file, "utf8"));
    // Two agents' files may have one name.
    if (text !== null) configs[`config/${index + 1}-${basename(file)}`] = withoutSecrets(file, text);
  }
  const versions = {
    cleave: await ownVersion(),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    writtenAt: new Date().toISOString(),
    agents: Object.fromEntries((status?.pods ?? []).map(({ podId, software }) => [podId, software])),
    missing: problems,
  };
  const known = [process.env["CLEAVE_TOKEN"]?.trim()].filter(
    (secret) => secret !== undefined && secret !== "",
  );
  const json = (value: unknown) => JSON.stringify(redact(value, known as string[]), null, 1);
  return {
    files: {
      "README.txt": ABOUT,
      "log.jsonl": log.map((record) => `${JSON.stringify(redact(record, known as string[]))}\n`).join(""),
      ...(status === null ? {} : { "status.json": json(status) }),
      "versions.json": json(versions),
      ...configs,
    },
    records: log.length,
    problems,
  };
}

/** Comments go too: an old password is often in one. @throws CleaveError CONFIG_INVALID: what cannot be read cannot be redacted. */
function withoutSecrets(file: string, text: string): string {
  const documents = parseAllDocuments(text);
  const error = documents.flatMap((one) => one.errors)[0];
  if (error) throw new CleaveError("CONFIG_INVALID", `${file}: ${error.message}`);
  return documents.map((one) => stringify(redact(one.toJS()))).join("---\n");
}

async function ownVersion(): Promise<string> {
  const text = await readFile(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** For its owner alone: names are in it. Never over a file that is there. @throws CleaveError FILE_PERMISSION. */
async function writeBundle(output: string, files: Readonly<Record<string, string>>): Promise<void> {
  const pack = tar.pack();
  const file = createWriteStream(output, { flags: "wx", mode: 0o600 });
  let opened = false;
  file.on("open", () => {
    opened = true;
  });
  for (const [name, text] of Object.entries(files)) pack.entry({ name: `cleave-diagnose/${name}` }, text);
  pack.finalize();
  try {
    await pipeline(pack, createGzip(), file);
  } catch (error) {
    if (opened) await rm(output, { force: true });
    throw new CleaveError("FILE_PERMISSION", `${output}: ${(error as Error).message}`, { cause: error });
  }
}
