import type { StoreName } from "../../../../protocol/ids.ts";
import type { MigrationStatus } from "../../../api/ports.ts";
import { scrubLines } from "../../../domain/read-back.ts";
import { labelOf, storesOf } from "../model/stores.ts";
import { type Cell, cellOf, duration, shareWord } from "../model/words.ts";
import { Badge } from "./badge.tsx";
import { Scrollable } from "./scrollable.tsx";

/** Pods × stores: who holds the same as the source, who is how far behind, and what is wrong. */
export function Matrix({ migration }: { migration: MigrationStatus }) {
  const stores = storesOf(migration);
  const label = (store: StoreName) => labelOf(store, migration.kind);
  const details = migration.pods.flatMap((pod) =>
    stores.flatMap((store) =>
      cellOf(pod.stores[store], pod.role).details.map((text) => `${pod.podId}: ${label(store)}: ${text}`),
    ),
  );
  const readBack = scrubLines(migration, duration);
  return (
    <section aria-labelledby="matrix-title">
      <h2 id="matrix-title">Consensus</h2>
      <Scrollable labelledBy="matrix-title">
        <table class="matrix">
          <thead>
            <tr>
              <th scope="col">Pod</th>
              {stores.map((store) => (
                <th key={store} scope="col">
                  {label(store)}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {migration.pods.map((pod) => {
              const share = shareWord(pod, migration.transfer !== null);
              return (
                <tr key={pod.podId}>
                  <th scope="row">
                    {pod.podId} <Badge tone={share.tone}>{share.text}</Badge>
                  </th>
                  {stores.map((store) => (
                    <MatrixCell key={store} cell={cellOf(pod.stores[store], pod.role)} />
                  ))}
                </tr>
              );
            })}
          </tbody>
        </table>
      </Scrollable>
      {details.length > 0 && (
        <ul class="problems">
          {details.map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      )}
      {readBack.length > 0 && (
        <>
          <h3>Copies read back from their disks</h3>
          <ul>
            {readBack.map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function MatrixCell({ cell }: { cell: Cell }) {
  return (
    <td>
      <Badge tone={cell.tone}>{cell.text}</Badge>
      {cell.progress !== null && <progress aria-label="Done" max={1} value={cell.progress} />}
    </td>
  );
}
