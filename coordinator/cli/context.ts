/** What every command needs: where the coordinator is, and how to answer. */
import { readFileSync } from "node:fs";
import { type Command, InvalidArgumentError } from "commander";
import { CleaveError } from "../../protocol/errors.ts";
import { ApiClient } from "./client.ts";

export const DEFAULT_URL = "http://127.0.0.1:7400";

export interface Context {
  client(): ApiClient;
  readonly json: boolean;
  /** JSON with `--json`, text otherwise. */
  print(value: unknown, text: string): void;
}

export function contextOf(program: Command): Context {
  const options = () => program.opts<{ url: string; json: boolean; ca?: string }>();
  return {
    client: () => {
      const { url, ca = process.env["CLEAVE_CA"] } = options();
      return new ApiClient(url, process.env["CLEAVE_TOKEN"], ca ? readCertificates(ca) : undefined);
    },
    get json() {
      return options().json;
    },
    print: (value, text) => console.log(options().json ? JSON.stringify(value, null, 2) : text),
  };
}

/** @throws CleaveError CONFIG_INVALID. */
function readCertificates(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new CleaveError("CONFIG_INVALID", `the certificates to trust: ${(error as Error).message}`);
  }
}

/** @throws InvalidArgumentError, which commander shows as wrong usage. */
export function httpUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "")
    throw new InvalidArgumentError(`give an address as ${DEFAULT_URL}.`);
  return text;
}

export function sequence(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError("give a sequence number of the log, from 0.");
  return Number(text);
}

/** Examples under a command's help, all starting with `cleave`. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  cleave ${line}`).join("\n")}`;
}
