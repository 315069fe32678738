/** Are PostgreSQL's roles as deploy/postgres/roles.sql leaves them, and who is let in without a password? */
import type { Finding } from "../../../protocol/evidence.ts";
import type { PostgresConfig } from "../../stores/postgres/config.ts";
import { connect, type Database, discard } from "../../stores/postgres/server/connection.ts";
import { found } from "./machine.ts";

const READER = "cleave_reader";
/** Initdb's superuser: whoever runs Cleave with it cannot tell its sessions from anybody's, and cannot limit them. */
const FIRST_ROLE = 10;

interface Role {
  readonly oid: number;
  readonly super: boolean;
  readonly replication: boolean;
  readonly makesDatabases: boolean;
  readonly makesRoles: boolean;
  readonly bypassesRls: boolean;
  readonly connections: number;
  readonly readsAll: boolean;
  readonly monitors: boolean;
  readonly settings: readonly string[];
}

/** Nothing where no server answers: that is said by the checks of the store. */
export async function checkRoles(config: PostgresConfig): Promise<Finding[]> {
  let db: Database;
  try {
    db = await connect(config, { applicationName: "cleave-doctor" });
  } catch {
    return [];
  }
  try {
    const wrong = (message: string) => found("warning", "POSTGRES_ROLE", message, "postgres");
    const [own, reader] = [await roleOf(db, config.user), await roleOf(db, READER)];
    const faults = [
      ...(own === null ? [] : agentFaults(own).map((fault) => `${config.user} ${fault}`)),
      ...(reader === null
        ? [`there is no role ${READER}: whoever only looks uses more rights than that needs`]
        : readerFaults(reader).map((fault) => `${READER} ${fault}`)),
      ...(await openDoors(db)),
    ];
    if (faults.length > 0) return faults.map(wrong);
    return [
      found("info", "POSTGRES_ROLE", `${config.user} and ${READER} are as roles.sql leaves them`, "postgres"),
    ];
  } finally {
    discard(db);
  }
}

async function roleOf(db: Database, name: string): Promise<Role | null> {
  const { rows } = await db.query<Role>(
    `SELECT r.oid::int AS oid, rolsuper AS super, rolreplication AS replication,
       rolcreatedb AS "makesDatabases", rolcreaterole AS "makesRoles", rolbypassrls AS "bypassesRls",
       rolconnlimit AS connections,
       pg_has_role(r.oid, 'pg_read_all_data', 'member') AS "readsAll",
       pg_has_role(r.oid, 'pg_monitor', 'member') AS monitors,
       COALESCE((SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0), '{}') AS settings
     FROM pg_roles r WHERE rolname = $1`,
    [name],
  );
  return rows[0] ?? null;
}

/** That it is a superuser is checked where a migration checks it. */
function agentFaults(role: Role): string[] {
  if (role.oid === FIRST_ROLE) return ["is the server's first superuser: give the agent a role of its own"];
  return [
    ...(role.replication ? [] : ["has no REPLICATION: base backups of other Pods' agents need it"]),
    ...(role.makesDatabases || role.makesRoles
      ? ["has CREATEDB or CREATEROLE, which nothing of Cleave uses"]
      : []),
    ...(role.connections === -1 ? ["may open any number of connections"] : []),
  ];
}

function readerFaults(role: Role): string[] {
  const more = [
    ...(role.super ? ["SUPERUSER"] : []),
    ...(role.replication ? ["REPLICATION"] : []),
    ...(role.makesDatabases ? ["CREATEDB"] : []),
    ...(role.makesRoles ? ["CREATEROLE"] : []),
    ...(role.bypassesRls ? ["BYPASSRLS"] : []),
  ];
  const readOnly = role.settings.some((setting) => setting === "default_transaction_read_only=on");
  return [
    ...(more.length > 0 ? [`has ${more.join(", ")}, and is only to read`] : []),
    ...(role.readsAll && role.monitors ? [] : ["lacks pg_read_all_data or pg_monitor"]),
    ...(readOnly ? [] : ["does not begin its transactions read-only"]),
    ...(role.connections === -1 ? ["may open any number of connections"] : []),
  ];
}

/** Lines of pg_hba.conf that let anybody in from elsewhere who only says a name. */
async function openDoors(db: Database): Promise<string[]> {
  const { rows } = await db.query<{ line: number; text: string }>(
    `SELECT line_number AS line, concat_ws(' ', type, array_to_string(database, ','), array_to_string(user_name, ','), address, netmask, auth_method) AS text
     FROM pg_hba_file_rules
     WHERE auth_method = 'trust' AND type <> 'local' AND error IS NULL
       AND COALESCE(address, '') NOT IN ('127.0.0.1', '::1', 'localhost')`,
  );
  return rows.map(({ line, text }) => `pg_hba.conf, line ${line}, asks for no password: ${text}`);
}
