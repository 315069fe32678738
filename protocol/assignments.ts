/**
 * Which organization goes to which Pod. A plan may assign a million organizations, so the assignments are a
 * content-addressed blob; events name it by digest and every process checks the digest when it loads it.
 */
import { createHash } from "node:crypto";
import { decode, encode } from "@msgpack/msgpack";
import { z } from "zod";
import { CleaveError } from "./errors.ts";
import { type Digest, OrganizationId, PodId } from "./ids.ts";

export type Assignments = ReadonlyMap<OrganizationId, PodId>;

/** Resolves a digest to its (immutable) assignments; throws BLOB_CORRUPT when they are not at hand. */
export type AssignmentsOf = (digest: Digest) => Assignments;

const Wire = z.strictObject({
  version: z.literal(1),
  pods: z.array(z.tuple([PodId, z.array(OrganizationId)])),
});

/** Canonical bytes: Pods sorted, organizations sorted within a Pod, so that equal assignments have one digest. */
export function encodeAssignments(assignments: Assignments): Uint8Array {
  const byPod = new Map<PodId, OrganizationId[]>();
  for (const [organization, pod] of assignments) {
    const list = byPod.get(pod);
    if (list) list.push(organization);
    else byPod.set(pod, [organization]);
  }
  const pods = [...byPod]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([pod, list]) => [pod, list.sort()] as const);
  return encode({ version: 1, pods });
}

export function digestOf(bytes: Uint8Array): Digest {
  return createHash("sha256").update(bytes).digest("hex") as Digest;
}

/** @throws CleaveError BLOB_CORRUPT when the bytes do not have that digest or that shape. */
export function decodeAssignments(bytes: Uint8Array, digest: Digest): Assignments {
  if (digestOf(bytes) !== digest)
    throw new CleaveError("BLOB_CORRUPT", `assignments ${digest} have another digest`);
  const parsed = Wire.safeParse(decode(bytes, { keyDecoder: null }));
  if (!parsed.success)
    throw new CleaveError("BLOB_CORRUPT", `assignments ${digest}: ${z.prettifyError(parsed.error)}`);
  const result = new Map<OrganizationId, PodId>();
  for (const [pod, organizations] of parsed.data.pods) {
    for (const organization of organizations) {
      if (result.has(organization))
        throw new CleaveError("PLAN_ORGANIZATION_TWICE", `${organization} is assigned twice`);
      result.set(organization, pod);
    }
  }
  return result;
}
