/**
 * Tries everything that must be refused after the split, past the application: SQL on every Pod that is not
 * authoritative, in every isolation level; ref updates inside dormant repositories; objects through the writers'
 * protocol; and what each guard says. A refusal counts only when it names the authoritative Pod, or leads there: a store
 * of a Pod that took no part in the last migration names the Pod before, which names the right one in turn.
 */
import { execFile } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { request } from "undici";
import { WriteRefused, withWriteIntent } from "../../../agent/stores/file-fence/write-intent.ts";
import type { PodLayout } from "../cluster/layout.ts";
import { writeCommit } from "../traffic/git-objects.ts";
import { type Check, checkOf } from "./check.ts";

const run = promisify(execFile);
const ISOLATION_LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] as const;

/** An organization on a Pod that may not serve it. */
export interface Forbidden {
  readonly organization: string;
  readonly pod: PodLayout;
  /** The Pod that does serve it. */
  readonly authoritative: string;
  /** Where the last migration took it from: Pods that took no part in that may name this one. */
  readonly before: string | null;
}

/** Whether naming that Pod leads a writer to the right one. The Pod before has to name the right one itself. */
function leads({ pod, authoritative, before }: Forbidden, named: string | null | undefined): boolean {
  return named === authoritative || (before !== null && named === before && pod.podId !== before);
}

/** Every organization on every Pod but its own. */
export function forbiddenAccesses(
  pods: readonly PodLayout[],
  authorityOf: ReadonlyMap<string, string>,
  before: ReadonlyMap<string, string>,
): Forbidden[] {
  return [...authorityOf].flatMap(([organization, authoritative]) =>
    pods
      .filter((pod) => pod.podId !== authoritative)
      .map((pod) => ({ organization, pod, authoritative, before: before.get(organization) ?? null })),
  );
}

/** Deletes each organization's row on each wrong Pod in each isolation level; rolls back whatever happens. */
export async function trySql(accesses: readonly Forbidden[]): Promise<Check> {
  const faults: string[] = [];
  const clients = new Map<PodLayout, pg.Client>();
  let tried = 0;
  try {
    for (const access of accesses) {
      const { organization, pod } = access;
      let client = clients.get(pod);
      if (client === undefined) {
        client = new pg.Client(pod.postgres);
        client.on("error", () => undefined);
        await client.connect();
        clients.set(pod, client);
      }
      for (const isolation of ISOLATION_LEVELS) {
        tried += 1;
        await client.query(`BEGIN ISOLATION LEVEL ${isolation}`);
        try {
          await client.query("DELETE FROM public.organizations WHERE id::text = $1", [organization]);
          faults.push(`${pod.podId} let ${organization} be deleted (${isolation})`);
        } catch (error) {
          const { code, detail, message } = error as pg.DatabaseError;
          if (code !== "CL421" || !leads(access, detail))
            faults.push(`${pod.podId}, ${organization}, ${isolation}: ${code} ${message}, detail ${detail}`);
        } finally {
          await client.query("ROLLBACK");
        }
      }
    }
  } finally {
    await Promise.all([...clients.values()].map((client) => client.end()));
  }
  return checkOf("PostgreSQL refuses wrong-Pod writes in every isolation level", faults, `${tried} refused`);
}

/** Updates a ref inside each dormant repository, as any git command on that machine could. */
export async function tryGit(
  repositories: readonly { readonly access: Forbidden; readonly path: string }[],
): Promise<Check> {
  const faults: string[] = [];
  for (const { access, path } of repositories) {
    const folder = join(access.pod.gitRoot, path);
    const where = `${access.pod.podId}/${path}`;
    const commit = writeCommit(folder, { parent: null, content: "no", message: "Intruder", seconds: 1 });
    const ref = "refs/heads/intruder";
    try {
      await run("git", ["--git-dir", folder, "update-ref", ref, commit]);
      faults.push(`${where} let a ref be written`);
    } catch (error) {
      const said = String((error as { stderr?: string }).stderr);
      const named = [access.authoritative, access.before].find(
        (podId) => podId !== null && said.includes(podId),
      );
      if (!leads(access, named)) faults.push(`${where} does not name the right Pod: ${said}`);
    }
    const refs = await run("git", ["--git-dir", folder, "for-each-ref", ref]);
    if (refs.stdout !== "") faults.push(`${where} has the refused ref`);
  }
  return checkOf("Git refuses wrong-Pod ref updates", faults, `${repositories.length} refused`);
}

/**
 * Writes an object through the writers' protocol on each wrong Pod. `keyOf` is where the application would put it. A Pod
 * that took no part in the last move may name the Pod before, which then has to name the right one.
 */
export async function tryObjects(
  pods: readonly PodLayout[],
  accesses: readonly Forbidden[],
  keyOf: (organization: string, name: string) => string,
): Promise<Check> {
  const faults: string[] = [];
  for (const { organization, pod, authoritative } of accesses) {
    const key = keyOf(organization, "intruder");
    const asked = new Set<PodLayout>();
    let next: PodLayout | undefined = pod;
    while (next !== undefined && next.podId !== authoritative && !asked.has(next)) {
      asked.add(next);
      const named = await refusedOn(next, organization, key);
      if (typeof named !== "string") faults.push(`${next.podId}, ${organization}: ${named.fault}`);
      next = pods.find(({ podId }) => podId === named);
    }
    if (next?.podId !== authoritative && faults.length === 0)
      faults.push(`${pod.podId}, ${organization}: nobody leads to ${authoritative}`);
  }
  return checkOf("object writers are refused on the wrong Pod", faults, `${accesses.length} refused`);
}

/** The Pod that the refusal names. */
async function refusedOn(
  pod: PodLayout,
  organization: string,
  key: string,
): Promise<string | { readonly fault: string }> {
  const file = join(pod.objectsRoot, key);
  const control = join(pod.stateDirectory, "control");
  try {
    await withWriteIntent({ control, store: "objects", key, organizationId: organization }, async () =>
      writeFileSync(file, "no"),
    );
    rmSync(file, { force: true });
    return { fault: "an object could be written" };
  } catch (error) {
    const named = error instanceof WriteRefused && error.code === "WRONG_POD" ? error.podId : null;
    return named ?? { fault: String(error) };
  }
}

/** Asks every guard about every organization, reading and writing. */
export async function tryGuards(
  pods: readonly PodLayout[],
  authorityOf: ReadonlyMap<string, string>,
): Promise<Check> {
  const faults: string[] = [];
  let asked = 0;
  for (const pod of pods) {
    for (const [organization, authoritative] of authorityOf) {
      for (const method of ["GET", "POST"]) {
        asked += 1;
        const response = await request(`http://127.0.0.1:${pod.guardPort}/guard/check`, {
          headers: {
            "x-original-method": method,
            "x-original-uri": `/organizations/${encodeURIComponent(organization)}/issues`,
          },
        });
        await response.body.dump();
        const expected = pod.podId === authoritative ? 200 : 421;
        if (response.statusCode !== expected || response.headers["cleave-pod"] !== authoritative)
          faults.push(`${pod.podId}, ${method} ${organization}: ${response.statusCode}`);
      }
    }
  }
  return checkOf("guards send every request to the right Pod", faults, `${asked} answers`);
}

/** Asks each wrong Pod's application directly, past router and guard. */
export async function tryApplications(accesses: readonly Forbidden[]): Promise<Check> {
  const faults: string[] = [];
  for (const access of accesses) {
    const { organization, pod } = access;
    const path = `/organizations/${encodeURIComponent(organization)}/issues`;
    const response = await request(`http://127.0.0.1:${pod.appPort}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        writeId: `intruder-${pod.podId}-${organization}`,
        title: "no",
        isolation: "read committed",
      }),
    });
    await response.body.dump();
    if (response.statusCode !== 421 || !leads(access, String(response.headers["cleave-pod"])))
      faults.push(`${pod.podId}, ${organization}: ${response.statusCode}`);
  }
  return checkOf("applications answer with the right Pod", faults, `${accesses.length} answers of 421`);
}

/** The identity that every Pod's PostgreSQL has now. */
export async function checkIdentities(pods: readonly PodLayout[]): Promise<Check> {
  const faults: string[] = [];
  for (const pod of pods) {
    const client = new pg.Client(pod.postgres);
    // What uses it says that it broke.
    client.on("error", () => undefined);
    await client.connect();
    try {
      const { rows } = await client.query<{ name: string; standby: boolean }>(
        "SELECT current_setting('cluster_name') AS name, pg_is_in_recovery() AS standby",
      );
      if (rows[0]?.name !== pod.podId || rows[0].standby)
        faults.push(`${pod.podId} is ${rows[0]?.name}${rows[0]?.standby ? ", a standby" : ""}`);
    } finally {
      await client.end();
    }
  }
  return checkOf("every Pod is itself and writable", faults, pods.map((pod) => pod.podId).join(", "));
}
