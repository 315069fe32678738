/** Which view is open: the part of the address behind `#`, so that links, the back button and reloads work. */
import { signal } from "@preact/signals";

export type View = { readonly name: "overview" } | { readonly name: "migration"; readonly id: string };

function viewOf(hash: string): View {
  const id = /^#\/migrations\/([a-z0-9-]{1,40})$/.exec(hash)?.[1];
  return id === undefined ? { name: "overview" } : { name: "migration", id };
}

export const view = signal<View>(viewOf(location.hash));
addEventListener("hashchange", () => {
  view.value = viewOf(location.hash);
});

export const hrefOf = (migrationId: string): string => `#/migrations/${migrationId}`;
