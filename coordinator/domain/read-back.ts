/** How far copies of files were read back from their disks (the scrub), in words for the status and the page. Pure. */
import type { ScrubStatus } from "../../protocol/evidence.ts";
import type { StoreName } from "../../protocol/ids.ts";
import type { MigrationStatus } from "./status.ts";
import { storeLabel } from "./wording.ts";

/** `12 of 50 read back, no whole pass yet`; `duration` puts milliseconds in words. */
export function scrubText(scrub: ScrubStatus, duration: (ms: number) => string): string {
  const { items, unread, passAgeMs, damaged, last } = scrub;
  const pass = passAgeMs === null ? "no whole pass yet" : `last whole pass ${duration(passAgeMs)} ago`;
  const found = damaged === 0 ? "" : `, ${damaged} found damaged${last === null ? "" : ` (last: ${last})`}`;
  return `${Math.max(0, items - unread)} of ${items} read back, ${pass}${found}`;
}

/** By Pod, each of its stores; copies that were left on the source are said to be of whom they follow. */
export function scrubLines(status: MigrationStatus, duration: (ms: number) => string): string[] {
  const lines: string[] = [];
  const say = (
    whose: string,
    stores: Readonly<Partial<Record<StoreName, { readonly scrub?: ScrubStatus | undefined } | null>>>,
  ) => {
    const said = Object.entries(stores).flatMap(([store, view]) =>
      view?.scrub ? [`${storeLabel(store as StoreName)} ${scrubText(view.scrub, duration)}`] : [],
    );
    if (said.length > 0) lines.push(`${whose}: ${said.join("; ")}`);
  };
  for (const { podId, stores } of status.pods) say(podId, stores);
  for (const { podId, givenUp, stores } of status.reverseReplication)
    if (givenUp === null) say(`${status.sourcePodId}, the copy of ${podId}`, stores);
  return lines;
}
