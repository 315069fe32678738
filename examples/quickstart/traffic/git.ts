/** Git clients: real `git push` of commits, tags and deletions over the router. */
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "./client.ts";
import { writeCommit } from "./git-objects.ts";
import { advertisedRefs, repositoryPath } from "./git-refs.ts";
import type { Knowledge, Known } from "./knowledge.ts";
import { clock, type Ledger } from "./ledger.ts";
import type { SeededRandom } from "./random.ts";

export interface TrafficRepository {
  readonly organization: string;
  /** The id in the repository's address. */
  readonly project: string;
}

const PATIENCE_MS = 60_000;
const NO_CONFIG = {
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_TERMINAL_PROMPT: "0",
  GIT_CONFIG_COUNT: "2",
  GIT_CONFIG_KEY_0: "gc.auto",
  GIT_CONFIG_VALUE_0: "0",
  // One request per push: a probe before it would be one more thing to wait for, and is not needed here.
  GIT_CONFIG_KEY_1: "http.postBuffer",
  GIT_CONFIG_VALUE_1: "16777216",
};

export class GitPusher {
  readonly #client: Client;
  readonly #knowledge: Knowledge;
  readonly #ledger: Ledger;
  readonly #random: SeededRandom;
  readonly #routerUrl: string;
  readonly #folder: string;
  readonly #run: string;
  #made = 0;
  /** Pushes that the remote refused and that were sent again. */
  refusedPushes = 0;

  constructor(options: {
    client: Client;
    knowledge: Knowledge;
    ledger: Ledger;
    random: SeededRandom;
    routerUrl: string;
    /** For the commits that are pushed; its own repository, made here. */
    folder: string;
    run: string;
  }) {
    this.#client = options.client;
    this.#knowledge = options.knowledge;
    this.#ledger = options.ledger;
    this.#random = options.random;
    this.#routerUrl = options.routerUrl;
    this.#folder = join(options.folder, "git-client.git");
    this.#run = options.run;
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#folder, { recursive: true });
    const { code, output } = await git(["init", "--quiet", "--bare", this.#folder]);
    if (code !== 0) throw new Error(`git init failed: ${output}`);
  }

  /** One push: a commit on a new or existing branch, a new tag, or a branch's deletion. */
  async push(repository: TrafficRepository): Promise<void> {
    const { organization, project } = repository;
    const own = this.#knowledge
      .writable("ref", organization)
      .filter((known) => known.key.startsWith(`${project} refs/heads/`));
    const choice = this.#random.next();
    if (own.length > 0 && choice < 0.12) return await this.#update(repository, this.#random.pick(own), null);
    const isTag = choice > 0.88;
    const known =
      own.length === 0 || isTag || choice < 0.4
        ? this.#newRef(repository, isTag ? "refs/tags" : "refs/heads")
        : this.#random.pick(own);
    this.#made += 1;
    const commit = writeCommit(this.#folder, {
      parent: known.state,
      content: `${known.key} ${this.#made}\n`,
      message: `Traffic ${this.#run} ${this.#made}`,
      seconds: 1_700_000_000 + this.#made,
    });
    await this.#update(repository, known, commit);
  }

  #newRef({ organization, project }: TrafficRepository, folder: string): Known {
    this.#made += 1;
    return this.#knowledge.add(
      "ref",
      organization,
      `${project} ${folder}/traffic/${this.#run}-${this.#made}`,
    );
  }

  /** Pushes until the remote says yes, or until its refs show that it did although the answer was lost. */
  async #update(repository: TrafficRepository, known: Known, commit: string | null): Promise<void> {
    const { organization, project } = repository;
    const path = repositoryPath(organization, project);
    const ref = known.key.slice(project.length + 1);
    const revision = known.revision + 1;
    known.busy = true;
    const sentAt = clock();
    let acknowledged = false;
    let certain = true;
    while (!acknowledged && clock() - sentAt < PATIENCE_MS) {
      const { code, output } = await git(
        ["push", "--porcelain", `${this.#routerUrl}${path}`, `${commit ?? ""}:${ref}`],
        this.#folder,
      );
      acknowledged = code === 0;
      if (acknowledged) break;
      certain = /\[remote rejected\]/.test(output);
      this.refusedPushes += 1;
      if (!certain) this.#client.unexpected(`push: ${output.trim().split("\n").at(-1)?.slice(0, 120)}`);
      const refs = await advertisedRefs(this.#client, organization, project);
      acknowledged = refs !== null && (refs.get(ref) ?? null) === commit;
      if (!acknowledged) await sleep(50);
    }
    known.busy = false;
    const entry = { kind: "ref" as const, organization, key: known.key, revision, state: commit, sentAt };
    if (acknowledged) {
      known.revision = revision;
      known.state = commit;
      known.history.push(commit);
      this.#ledger.add({ ...entry, endedAt: clock(), podId: null, outcome: "acknowledged" });
    } else {
      known.abandoned = true;
      if (!certain) this.#ledger.add({ ...entry, endedAt: clock(), podId: null, outcome: "ambiguous" });
    }
  }
}

/** Runs git with an environment that no configuration of the machine changes. */
export async function git(args: readonly string[], cwd?: string): Promise<{ code: number; output: string }> {
  return await new Promise((resolve, reject) => {
    const child = spawn("git", [...args], {
      env: { ...process.env, ...NO_CONFIG },
      stdio: ["ignore", "pipe", "pipe"],
      ...(cwd === undefined ? {} : { cwd }),
    });
    let output = "";
    const collect = (chunk: Buffer) => {
      output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", reject);
    child.on("close", (code) => resolve({ code: code ?? 1, output }));
  });
}
