/**
 * What has to be true before organizations can be moved one by one: nothing of one refers to anything of another, and
 * no two Pods give out the same keys. The generated data refers to anything at random, as code that grew does.
 */
import pg from "pg";

const ISOLATE = [
  "DELETE FROM issue_links l USING issues a, projects pa, issues b, projects pb WHERE a.id = l.source_id AND pa.id = a.project_id AND b.id = l.target_id AND pb.id = b.project_id AND pa.organization_id <> pb.organization_id",
  "DELETE FROM label_links l USING labels a, projects pa, issues b, projects pb WHERE a.id = l.label_id AND pa.id = a.project_id AND b.id = l.target_id AND pb.id = b.project_id AND pa.organization_id <> pb.organization_id",
  "UPDATE merge_requests m SET source_project_id = target_project_id FROM projects a, projects b WHERE a.id = m.source_project_id AND b.id = m.target_project_id AND a.organization_id <> b.organization_id",
  "UPDATE projects p SET forked_from_project_id = NULL FROM projects f WHERE f.id = p.forked_from_project_id AND f.organization_id <> p.organization_id",
  "UPDATE issues i SET milestone_id = NULL FROM milestones m, projects a, projects b WHERE m.id = i.milestone_id AND a.id = m.project_id AND b.id = i.project_id AND a.organization_id <> b.organization_id",
];

/** Keys up to here are the first Pod's. */
const BORDER = 1_000_000_000;

async function onDatabase<T>(address: pg.ClientConfig, work: (db: pg.Client) => Promise<T>): Promise<T> {
  const db = new pg.Client(address);
  // What uses it says that it broke.
  db.on("error", () => undefined);
  await db.connect();
  try {
    return await work(db);
  } finally {
    await db.end();
  }
}

/** Removes the references from one organization to another. */
export async function isolate(database: pg.ClientConfig): Promise<void> {
  await onDatabase(database, async (db) => {
    for (const statement of ISOLATE) await db.query(statement);
  });
}

/** Disjoint ranges for every sequence: the usual arrangement where each Pod numbers its own rows. */
export async function numberApart(first: pg.ClientConfig, second: pg.ClientConfig): Promise<void> {
  const each = (statement: string) => `DO $$ DECLARE s record; BEGIN
    FOR s IN SELECT c.oid::regclass AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_sequence q ON q.seqrelid = c.oid WHERE n.nspname = 'public' AND q.seqtypid = 'bigint'::regtype LOOP
      EXECUTE format('ALTER SEQUENCE %s ${statement}', s.name);
    END LOOP; END $$`;
  await onDatabase(first, (db) => db.query(each(`MAXVALUE ${BORDER}`)));
  await onDatabase(second, (db) =>
    db.query(each(`MINVALUE ${BORDER + 1} START WITH ${BORDER + 1} RESTART WITH ${BORDER + 1}`)),
  );
}
