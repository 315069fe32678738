import { useEffect, useMemo, useReducer, useRef, useState } from "preact/hooks";
import type { CoordinatorService, MigratedOrganization } from "../../../api/ports.ts";
import { type Page, Rows, rowsInSight } from "../model/rows.ts";
import { askJson, Refused } from "../state/client.ts";
import { routesChanged } from "../state/live.ts";
import { Scrollable } from "./scrollable.tsx";

type Answer = Awaited<ReturnType<CoordinatorService["organizations"]>>;

const ROW_PX = 32;
const PAGE_ROWS = 500;
/** Loaded ahead of what is in sight. */
const AHEAD_ROWS = 200;
/** Of a typing hand. */
const SEARCH_AFTER_MS = 200;

export interface OrganizationsProps {
  readonly migrationId: string;
  readonly total: number;
}

/** Which organization goes where: found by search, or by scrolling as far as one likes. */
export function Organizations({ migrationId, total }: OrganizationsProps) {
  const [search, setSearch] = useState("");
  const [wanted, setWanted] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setWanted(search.trim()), SEARCH_AFTER_MS);
    return () => clearTimeout(timer);
  }, [search]);
  return (
    <section aria-labelledby="organizations-title" class="organizations">
      <h2 id="organizations-title">Organizations</h2>
      <label class="search">
        Search by the beginning of the id
        <input
          type="search"
          value={search}
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      </label>
      <List
        key={`${wanted} ${routesChanged.value}`}
        migrationId={migrationId}
        search={wanted}
        total={total}
      />
    </section>
  );
}

function List({ migrationId, search, total }: OrganizationsProps & { search: string }) {
  const [, redraw] = useReducer((count: number) => count + 1, 0);
  const [scrolled, setScrolled] = useState(0);
  const viewport = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => {
    const fetchPage = async (after: string | null): Promise<Page<MigratedOrganization>> => {
      const query = new URLSearchParams({ limit: String(PAGE_ROWS) });
      if (after !== null) query.set("after", after);
      if (search !== "") query.set("search", search);
      const path = `/v1/migrations/${migrationId}/organizations?${query}`;
      const { organizations, found, next } = await askJson<Answer>(path);
      return { rows: organizations, found, next };
    };
    return new Rows(fetchPage, () => redraw(0));
  }, [migrationId, search]);
  const count = rows.loaded.length;
  const { from, to } = rowsInSight(scrolled, viewport.current?.clientHeight ?? 400, ROW_PX, count);
  useEffect(() => {
    if (!rows.complete && rows.problem === null && to + AHEAD_ROWS >= count) void rows.want(to + AHEAD_ROWS);
  }, [rows, to, count]);
  return (
    <>
      <p class="dim" role="status">
        {summary(rows.found, search, total)}
      </p>
      {rows.problem !== null && (
        <p class="trouble" role="alert">
          {rows.problem instanceof Refused ? `${rows.problem.message}. ` : "The list could not be loaded. "}
          <button type="button" onClick={() => void rows.want(to + AHEAD_ROWS)}>
            Try again
          </button>
        </p>
      )}
      <Scrollable
        labelledBy="organizations-title"
        class="viewport"
        viewport={viewport}
        busy={rows.loading}
        onScroll={setScrolled}
      >
        <table aria-labelledby="organizations-title" aria-rowcount={rows.found ?? -1}>
          <thead>
            <tr aria-rowindex={1}>
              <th scope="col">Organization</th>
              <th scope="col">Goes to</th>
              <th scope="col">Served by</th>
            </tr>
          </thead>
          <tbody>
            <Space rows={from} />
            {rows.loaded.slice(from, to).map((row, index) => (
              <tr key={row.organizationId} aria-rowindex={from + index + 2}>
                <td>{row.organizationId}</td>
                <td>{row.podId}</td>
                <td>{row.servedBy}</td>
              </tr>
            ))}
            <Space rows={count - to} />
          </tbody>
        </table>
      </Scrollable>
    </>
  );
}

/** Keeps the place of rows that are out of sight. */
function Space({ rows }: { rows: number }) {
  return rows === 0 ? null : (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: a row takes no focus
    <tr aria-hidden="true" style={{ height: `${rows * ROW_PX}px` }}>
      <td colSpan={3} />
    </tr>
  );
}

function summary(found: number | null, search: string, total: number): string {
  const words = new Intl.NumberFormat("en");
  if (search === "") return `${words.format(total)} organizations.`;
  if (found === null) return "Searching…";
  return `${found === 0 ? "None" : words.format(found)} of ${words.format(total)} begin with “${search}”.`;
}
