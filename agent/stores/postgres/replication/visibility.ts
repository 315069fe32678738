/** Whether a snapshot of the source has what a transaction of its change stream did. Pure. */

const WRAP = 2 ** 32;

/**
 * For transactions by their number as the stream has it, of 32 bits.
 * @param snapshot `xmin:xmax:xip,…`, as pg_current_snapshot writes it
 */
export function visibility(snapshot: string): (xid: number) => boolean {
  const [, end = "0", running = ""] = snapshot.split(":");
  const xmax = Number(end);
  const inProgress = new Set(running.split(",").filter(Boolean).map(Number));
  return (xid) => {
    // The one of its epochs that is nearest to the snapshot.
    let full = Math.floor(xmax / WRAP) * WRAP + (xid % WRAP);
    if (full > xmax + WRAP / 2) full -= WRAP;
    else if (full < xmax - WRAP / 2) full += WRAP;
    return full < xmax && !inProgress.has(full);
  };
}
