/** Reads a repository's refs over smart HTTP, as the first step of every fetch does. */
import type { Client } from "./client.ts";

/** The address of a project's repository, relative to the router's. */
export function repositoryPath(organization: string, project: string): string {
  return `/organizations/${encodeURIComponent(organization)}/repositories/${encodeURIComponent(project)}.git`;
}

/** Ref name → commit; null when the repository could not be read. */
export async function advertisedRefs(
  client: Client,
  organization: string,
  project: string,
): Promise<Map<string, string> | null> {
  const answer = await client.send(
    "GET",
    `${repositoryPath(organization, project)}/info/refs?service=git-upload-pack`,
  );
  if (answer?.status !== 200) return null;
  return parseAdvertisement(answer.body);
}

/** Parses protocol version 0: pkt-lines `ID NAME\0capabilities`. Peeled tags (`^{}`) are left out. */
export function parseAdvertisement(body: Buffer): Map<string, string> | null {
  const refs = new Map<string, string>();
  let offset = 0;
  while (offset + 4 <= body.length) {
    const length = Number.parseInt(body.toString("latin1", offset, offset + 4), 16);
    if (Number.isNaN(length)) return null;
    if (length < 4) {
      offset += 4;
      continue;
    }
    const line = body.toString("utf8", offset + 4, offset + length).replace(/\n$/, "");
    offset += length;
    if (line.startsWith("#")) continue;
    const [id, name] = (line.split("\0")[0] as string).split(" ");
    if (id !== undefined && name !== undefined && !name.endsWith("^{}") && name !== "capabilities")
      refs.set(name, id);
  }
  return refs;
}
