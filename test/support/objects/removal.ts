/** Objects that organizations left behind, for the tests of their removal. */
import { access } from "node:fs/promises";
import { source, target } from "./pair.ts";
import { type DutyOptions, ownerOf } from "./pods.ts";

export const MOVE = { kind: "move" } as const;
export const asOnSource = { mayRemove: (id: string) => id === "red" };
export const asOnTarget = { mayRemove: (id: string) => id !== "red" };
export const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** Everything but what belongs to `organization`. */
export async function others(pod: typeof source, organization: string): Promise<Record<string, string>> {
  const isOther = (key: string) => {
    const owner = ownerOf(key);
    return owner?.kind !== "organization" || owner.organizationId !== organization;
  };
  return Object.fromEntries(Object.entries(await pod.contents()).filter(([key]) => isOther(key)));
}
export const count = async (pod: typeof source) => Object.keys(await pod.contents()).length;

export async function opened(kind: "move" | "split" = "split"): Promise<void> {
  const options: DutyOptions = { kind };
  await source.reach("prepare", options);
  await target.reach("seed", options);
  await source.reach("serve", options);
  await target.reach("follow", options);
  await Promise.all([
    source.reach("fence", { ...options, epoch: 1 }),
    target.reach("match", { ...options, epoch: 1 }),
  ]);
  await target.reach("activate", { ...options, epoch: 1 });
  await source.reach("yield", { ...options, epoch: 1 });
  await target.reach("open", { ...options, epoch: 1 });
}
