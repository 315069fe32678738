/** What a screen reader says without being asked: changes of state, and what became of a command. */
import { effect, signal } from "@preact/signals";
import { status } from "./live.ts";
import { view } from "./route.ts";

export const announcement = signal("");

export function announce(text: string): void {
  announcement.value = text;
}

const last = new Map<string, string>();

/** A change of state alone: sentences of what is waited for change several times a second. */
effect(() => {
  const open = view.value;
  const said: string[] = [];
  for (const one of status.value?.migrations ?? []) {
    const now = `${one.lifecycle}${one.paused === null ? "" : ", paused"}`;
    const before = last.get(one.migrationId);
    last.set(one.migrationId, now);
    if (before === undefined || before === now) continue;
    if (open.name === "migration" && open.id !== one.migrationId) continue;
    const waiting = one.waitingFor[0];
    said.push(`${one.migrationId} is ${now}.${waiting === undefined ? "" : ` Waiting for ${waiting}.`}`);
  }
  if (said.length > 0) announcement.value = said.join(" ");
});
