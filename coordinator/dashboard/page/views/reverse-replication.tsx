import type { StoreName } from "../../../../protocol/ids.ts";
import type { MigrationStatus } from "../../../api/ports.ts";
import { labelOf } from "../model/stores.ts";
import { reverseReplicationCellOf } from "../model/words.ts";
import { Badge } from "./badge.tsx";

/** Whether a rollback would lose nothing now: by Pod, how far the copy that was left behind follows. */
export function ReverseReplication({ migration }: { migration: MigrationStatus }) {
  if (migration.reverseReplication.length === 0) return null;
  return (
    <section aria-labelledby="reverse-replication-title">
      <h2 id="reverse-replication-title">Reverse replication to {migration.sourcePodId}</h2>
      <dl>
        {migration.reverseReplication.map(({ podId, givenUp, stores }) => (
          <div key={podId}>
            <dt>from {podId}</dt>
            {givenUp !== null && (
              <dd>
                <Badge tone="bad">given up</Badge> {givenUp}
              </dd>
            )}
            {givenUp === null && Object.keys(stores).length === 0 && (
              <dd>
                <Badge tone="busy">nothing reported yet</Badge>
              </dd>
            )}
            {Object.entries(stores).map(([store, way]) => {
              const cell = reverseReplicationCellOf(way);
              return (
                <dd key={store}>
                  {labelOf(store as StoreName, "rollback")}: <Badge tone={cell.tone}>{cell.text}</Badge>{" "}
                  {cell.details.join("; ")}
                </dd>
              );
            })}
          </div>
        ))}
      </dl>
    </section>
  );
}
