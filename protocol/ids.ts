/**
 * Branded identifiers. A value of one of these types was checked once, at the edge, and may be used
 * afterwards without looking at it again. All of them arrive from outside and are treated as hostile.
 */
import { z } from "zod";

/**
 * A Pod's name: lower-case letters, digits and inner dashes, at most 40 characters, so that it is safe in a
 * replication slot's name, an `application_name`, a NATS subject, a file name and a DNS label.
 */
export const PodId = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/,
    "a Pod id is 1 to 40 lower-case letters, digits and inner dashes",
  )
  .brand<"PodId">();
export type PodId = z.infer<typeof PodId>;

/** A migration's name; the same alphabet as a Pod's, for the same reasons. */
export const MigrationId = z
  .string()
  .regex(
    /^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$/,
    "a migration id is 1 to 40 lower-case letters, digits and inner dashes",
  )
  .brand<"MigrationId">();
export type MigrationId = z.infer<typeof MigrationId>;

/**
 * An organization's key as text: what the root table's key column casts to (`42`, a uuid, a path).
 * 1 to 200 bytes of UTF-8 without control characters. Anything else in it is allowed and never trusted.
 */
export const OrganizationId = z
  .string()
  .min(1)
  .refine((s) => Buffer.byteLength(s) <= 200, "an organization id has at most 200 bytes")
  .refine((s) => !/[\u0000-\u001f\u007f]/.test(s), "an organization id has no control characters")
  .refine((s) => s.isWellFormed(), "an organization id is well-formed Unicode")
  .brand<"OrganizationId">();
export type OrganizationId = z.infer<typeof OrganizationId>;

/** PostgreSQL's log sequence number as the server prints it, for example `16/B374D848`. */
export const Lsn = z
  .string()
  .regex(/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i, "an LSN is two hexadecimal numbers with a slash between")
  .brand<"Lsn">();
export type Lsn = z.infer<typeof Lsn>;

/** Number of one raised fence. Grows by one with every fence of the cluster; never reused. */
export const Epoch = z.number().int().positive().brand<"Epoch">();
export type Epoch = z.infer<typeof Epoch>;

/** Version of the cluster's routes. Grows with every transfer and revocation; never goes back. */
export const RouteVersion = z.number().int().nonnegative().brand<"RouteVersion">();
export type RouteVersion = z.infer<typeof RouteVersion>;

/** SHA-256 in lower-case hexadecimal: the address of a blob. */
export const Digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "a digest is 64 lower-case hexadecimal characters")
  .brand<"Digest">();
export type Digest = z.infer<typeof Digest>;

/** The stores of a Pod. Consensus asks every one of them; a fourth is added here and nowhere else in the protocol. */
export const StoreName = z.enum(["postgres", "git", "objects"]);
export type StoreName = z.infer<typeof StoreName>;

/** An LSN as a number of bytes since the beginning of the WAL. */
export function lsnToBytes(lsn: Lsn): bigint {
  const [high, low] = lsn.split("/") as [string, string];
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

/** Bytes from `from` to `to`; negative when `to` is behind. Safe as a number up to 8 PiB. */
export function lsnDistanceBytes(from: Lsn, to: Lsn): number {
  return Number(lsnToBytes(to) - lsnToBytes(from));
}
