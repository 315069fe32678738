/**
 * One digest over a whole inventory that costs the same per change for ten thousand items and for ten million:
 * 256 buckets, each the sum modulo 2^256 of a hash per entry, so that entries can be added and removed in any order.
 */
import { createHash } from "node:crypto";

const BUCKETS = 256;
const MODULUS = 1n << 256n;

/** Length-prefixed, so that no key and value can be read as another key and value. */
function entryHash(key: string, value: string): bigint {
  const keyBytes = Buffer.from(key);
  const valueBytes = Buffer.from(value);
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32BE(keyBytes.length, 0);
  lengths.writeUInt32BE(valueBytes.length, 4);
  const hash = createHash("sha256").update(lengths).update(keyBytes).update(valueBytes).digest("hex");
  return BigInt(`0x${hash}`);
}

function bucketOf(key: string): number {
  return createHash("sha256").update(key).digest()[0] as number;
}

/** Two inventories have the same `root()` when they hold the same keys with the same values. */
export class InventoryDigest {
  readonly #values = new Map<string, string>();
  readonly #sums: bigint[] = Array.from({ length: BUCKETS }, () => 0n);

  /** `value` is whatever has to be equal: a content digest, a repository's checksum with its HEAD. */
  set(key: string, value: string): void {
    const before = this.#values.get(key);
    if (before === value) return;
    const bucket = bucketOf(key);
    const removed = before === undefined ? 0n : entryHash(key, before);
    this.#add(bucket, entryHash(key, value) - removed);
    this.#values.set(key, value);
  }

  delete(key: string): void {
    const before = this.#values.get(key);
    if (before === undefined) return;
    this.#add(bucketOf(key), -entryHash(key, before));
    this.#values.delete(key);
  }

  get(key: string): string | undefined {
    return this.#values.get(key);
  }

  get size(): number {
    return this.#values.size;
  }

  /** `<count>/<root>`, which evidence carries: equal on two Pods exactly when they hold the same. */
  get countedRoot(): string {
    return `${this.size}/${this.root()}`;
  }

  /** SHA-256 over the buckets, in hexadecimal. */
  root(): string {
    const hash = createHash("sha256");
    for (let index = 0; index < BUCKETS; index++) hash.update(this.bucket(index));
    return hash.digest("hex");
  }

  /** 64 hexadecimal characters; bucket `index` holds the keys whose SHA-256 begins with that byte. */
  bucket(index: number): string {
    return (this.#sums[index] ?? 0n).toString(16).padStart(64, "0");
  }

  /** The keys of one bucket, to narrow a difference down to names. */
  keysOfBucket(index: number): string[] {
    return [...this.#values.keys()].filter((key) => bucketOf(key) === index);
  }

  #add(bucket: number, difference: bigint): void {
    const sum = ((this.#sums[bucket] ?? 0n) + difference) % MODULUS;
    this.#sums[bucket] = sum < 0n ? sum + MODULUS : sum;
  }
}
