/** I1: at no instant do two Pods acknowledge writes for the same organization. */
import type { Checker } from "../observer.ts";
import type { Facts } from "./facts.ts";

export function singleAuthority({ truth, violated }: Facts): Checker {
  return {
    invariant: "I1",
    committed(podId, store, organization, write) {
      const { phase, source, target, podId: authoritative, migration } = truth.authority(organization);
      const said = (why: string) =>
        violated("I1", `${podId} committed ${write} of ${organization} in ${store}, but ${why}`);
      if (authoritative !== null && authoritative !== podId) said(`${authoritative} is authoritative`);
      else if (phase === "transferred") said(`its authority is on the way to ${target}: nobody may`);
      else if (phase === "fenced" && podId !== source) said(`the source is ${source}`);
      // Writers in flight may finish while the source drains; the log says when it had.
      else if (phase === "fenced" && migration?.lifecycle !== "fencing") said("its source had drained");
    },
  };
}
